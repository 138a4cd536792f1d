from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from bento.errors import UserError
from tasks import masked
from tasks.compress.context import Context
from tasks.masked import IGNORED, replaced_words

TEXTS = ["the car over there is red", "a blue lamp was seen", "unbelievable!"] * 10


def test_about_the_asked_share_of_whole_words_is_replaced(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "NUM_STEPS", 5)
    found, other = replaced_words(TEXTS, context, share=0.5, versions=2)
    assert found == next(replaced_words(TEXTS, context, share=0.5, versions=1)), "the same seed draws the same words"
    assert sum(a != b for a, b in zip(found, other, strict=True)) > 10, "each version draws its own"
    differ = [
        sum(a != b for a, b in zip(old.split(), new.split(), strict=True))
        for old, new in zip(TEXTS, found, strict=True)
    ]
    assert 20 < sum(differ) < 90
    assert all(new.replace(" ", "").rstrip("!").isalpha() for new in found)


def test_nothing_is_replaced_at_a_share_of_none(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "NUM_STEPS", 1)
    assert list(replaced_words(TEXTS, context, share=0.0, versions=1)) == [TEXTS]


def test_pairs_stay_pairs(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "NUM_STEPS", 1)
    pairs = [("the car is red", "a blue lamp"), ("a tree", "the green road")]
    (found,) = replaced_words(pairs, context, share=0.9, versions=1)
    assert [tuple(map(type, pair)) for pair in found] == [(str, str), (str, str)]
    assert found != pairs


def test_the_head_learns_what_stands_where(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masked, "NUM_STEPS", 150)
    tokenizer = AutoTokenizer.from_pretrained(context.teacher.path)
    from tasks.architecture import load_classifier
    from tasks.batches import tokenize

    model = load_classifier(context.teacher.path)
    rows = tokenize(tokenizer, ["the car is red"] * 64, max_tokens=16)
    head = masked._fit_head(model, rows, tokenizer, 0)
    batch: dict[str, Any] = dict(tokenizer(["the [MASK] is red"], return_tensors="pt"))
    states = masked._states(model, batch, masked.make_accelerator())
    assert tokenizer.decode(head(states[0, 2])[None].argmax(dim=1)) == "car"
    assert torch.isfinite(head(states[0])).all()


def test_masking_leaves_special_tokens_and_padding_alone(context: Context) -> None:
    import numpy as np

    tokenizer = AutoTokenizer.from_pretrained(context.teacher.path)
    batch = dict(tokenizer(["the car", "a blue lamp was seen"], padding=True, return_tensors="pt"))
    targets_BT = masked._mask(batch, tokenizer, 1.0, np.random.default_rng(0))
    assert (targets_BT != IGNORED).sum() == 7
    assert (batch["input_ids"] == tokenizer.mask_token_id).sum() == 7


def test_a_tokenizer_without_a_mask_is_refused(context: Context, tmp_path: Any) -> None:
    import json
    import shutil

    folder = tmp_path / "unmasked"
    shutil.copytree(context.teacher.path, folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["mask_token"]
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # BERT's own class would put it back
    path.write_text(json.dumps(config))
    (folder / "special_tokens_map.json").unlink()
    changed = replace(context, teacher=replace(context.teacher, path=folder))
    with pytest.raises(UserError, match="a mask token"):
        replaced_words(TEXTS, changed, share=0.5, versions=1)
