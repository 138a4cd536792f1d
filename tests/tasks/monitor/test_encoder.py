import json
import os

import numpy as np
import pytest

from bento.errors import IntegrityError
from tasks.monitor.encoder import embed, export_encoder, packaged_encoder

TEXTS = ["My card has not arrived yet", "transfer", "", "why was I charged twice for one and the same payment? " * 8]


def tiny_encoder(folder):
    """A random 2-layer BERT of 32 dimensions with a tokenizer of its own, saved as `from_pretrained` loads it."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "my", "card", "has", "not", "arrived", "transfer", "payment"]
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        initializer_range=0.2,
    )
    BertModel(config).eval().save_pretrained(folder)
    BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def torch_embeddings(folder, texts, max_tokens=64):
    """Mean pooling as sentence-transformers does it, one padded batch in PyTorch."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None]
    mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    return torch.nn.functional.normalize(mean, dim=1).numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoder")
    source = tiny_encoder(root / "source")
    export_encoder(source, root / "onnx")
    return source, root / "onnx"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_embeddings_equal_pytorchs(exported):
    source, folder = exported
    assert np.allclose(embed(folder, TEXTS), torch_embeddings(source, TEXTS), atol=1e-5)


def test_the_export_holds_what_is_needed_and_nothing_else(exported):
    files = {path.relative_to(exported[1]).as_posix() for path in exported[1].rglob("*") if path.is_file()}
    assert files == {"onnx/model.onnx", "tokenizer.json", "config.json"}
    assert json.loads((exported[1] / "config.json").read_text())["hidden_size"] == 32


def test_the_order_and_the_batch_do_not_matter(exported):
    texts = [f"{'my card ' * (row % 7)} transfer" for row in range(50)]
    assert np.allclose(embed(exported[1], texts), embed(exported[1], texts, batch_size=3), atol=1e-5)
    assert np.allclose(embed(exported[1], texts[::-1]), embed(exported[1], texts)[::-1], atol=1e-5)


def test_embeddings_have_length_1_and_pairs_are_taken(exported):
    found = embed(exported[1], ["my card", ("my card", "transfer")])
    assert found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert not np.allclose(found[0], found[1], atol=1e-3)


def test_no_texts_are_no_rows(exported):
    assert len(embed(exported[1], [])) == 0


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match=r"onnx/model\.onnx"):
        embed(tmp_path, ["a"])


@pytest.mark.slow
def test_the_packaged_minilm_embeds_as_pytorch_does(tmp_path):
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    export_encoder(packaged_encoder(), tmp_path)
    found = embed(tmp_path, TEXTS)
    assert np.allclose(found, torch_embeddings(packaged_encoder(), TEXTS), atol=1e-4)
    assert float(found[0] @ embed(tmp_path, ["where is my new card?"])[0]) > float(found[0] @ found[3])
