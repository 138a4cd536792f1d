"""Quantization-aware training: the model learns with its weights and activations rounded as they will be served.

Rounding in the forward pass, and a gradient that passes through it (Jacob 2018, arXiv:1712.05877, section 3; the
straight-through estimator of Bengio 2013, arXiv:1308.3432). For BERT: Q8BERT (Zafrir 2019, arXiv:1910.06188). The
weights are left on the grid, so the quantization that follows the export stores them without a further error.

Shapes: O outputs, I inputs, K values of a block, V vocabulary, H hidden size.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from tasks.architecture import Architecture, load_classifier
from tasks.compress.context import Context
from tasks.distillation import Training, check_training, distil_into
from tasks.quantization.storage import block_size
from tasks.store import Step
from tasks.training import write_history
from tasks.types import Artifact

if TYPE_CHECKING:
    import torch

LEAST_SCALE = 2.0**-24  # the smallest 16-bit float: a row of zeros stays one


class TrainQuantized(Training):
    """Train on with rounded weights and activations, for what quantization after training loses."""

    kind: Literal["train_quantized"] = "train_quantized"
    weight_bits: Literal[4, 8] = 8
    """Of the matrices: 8 with a scale an output, 4 with a scale a block of inputs, as `quantize` stores."""
    embedding_bits: Literal[4, 8] = 8
    """Of the embeddings: 8 with a scale a row, 4 with a scale a block of a row."""
    activations: bool = True
    """Round what goes into each matrix to 8 bits too; not for weight-only schemes, which compute in float."""
    epochs: int = Field(default=2, ge=1, le=200)
    """Passes over the training split and the transfer text."""
    learning_rate: float = Field(default=5e-5, gt=0, lt=1)
    """Peak of the warm-up; low, since the model is trained already."""

    consumes: ClassVar[str] = "torch"
    produces: ClassVar[str] = "torch"

    def check(self, shape: Architecture) -> Architecture:
        """Every encoder has matrices to round; its sizes stay. Raises: UserError for what cannot be learnt."""
        check_training(self, shape, "train_quantized")
        return shape

    def run(self, artifact: Artifact, context: Context) -> Step:
        """The model of `artifact`, its weights on the grid of the quantization to come."""
        return context.step(self, artifact, lambda out, work: self._make(artifact.path, context, out, work))

    def _make(self, source: Path, context: Context, out: Path, work: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer, model = AutoTokenizer.from_pretrained(source), load_classifier(source)
        rounded = round_weights(
            model, weight_bits=self.weight_bits, embedding_bits=self.embedding_bits, half_scales=not self.activations
        )
        matrices = _of_kind(model, "Linear") if self.activations else []
        hooks = [module.register_forward_pre_hook(_round_input) for module in matrices]
        history = distil_into(model, tokenizer, self, context, work=work, name="train_quantized")
        for hook in hooks:
            hook.remove()
        keep_rounded(rounded)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        write_history(history, out)


def round_weights(model: Any, *, weight_bits: int, embedding_bits: int, half_scales: bool) -> list[Any]:
    """Make `model` compute with rounded matrices and embeddings; the modules concerned.

    Embeddings and 4-bit matrices are stored with scales in 16 bits, 8-bit matrices only where they are stored and not
    multiplied in integers: `half_scales`.
    """
    from torch.nn.utils import parametrize

    tables, matrices = _of_kind(model, "Embedding"), _of_kind(model, "Linear")
    for module in tables:
        parametrize.register_parametrization(module, "weight", _make_rounding(embedding_bits, half_scales=True))
    for module in matrices:
        rounding = _make_rounding(weight_bits, half_scales=half_scales or weight_bits == 4)
        parametrize.register_parametrization(module, "weight", rounding)
    return tables + matrices


def keep_rounded(modules: list[Any]) -> None:
    """Leave the rounded values behind as plain weights."""
    from torch.nn.utils import parametrize

    for module in modules:
        parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


def round_values(weight_OI: "torch.Tensor", bits: int, *, half_scales: bool) -> "torch.Tensor":
    """Symmetric rounding with a scale a row (8 bits) or a block of a row (4 bits), the gradient passed through.

    `half_scales` keeps the scales in 16 bits, as they are stored.
    """
    size = weight_OI.shape[1] if bits == 8 else block_size(weight_OI.shape[1])
    blocks = weight_OI.reshape(-1, size)
    largest = 2 ** (bits - 1) - 1
    scale = blocks.detach().abs().amax(dim=-1, keepdim=True) / largest
    scale = (scale.half().float() if half_scales else scale).clamp(min=LEAST_SCALE)
    rounded = (blocks / scale).round().clamp(-largest, largest) * scale
    passed: torch.Tensor = (blocks + (rounded - blocks).detach()).reshape(weight_OI.shape)
    return passed


def _make_rounding(bits: int, *, half_scales: bool) -> Any:
    import torch

    class Rounding(torch.nn.Module):
        def forward(self, weight_OI: torch.Tensor) -> torch.Tensor:
            return round_values(weight_OI, bits, half_scales=half_scales)

    return Rounding()


def _of_kind(model: Any, kind: str) -> list[Any]:
    """All modules of one class of torch.nn."""
    import torch

    return [module for module in model.modules() if isinstance(module, getattr(torch.nn, kind))]


def _round_input(_module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Asymmetric 8-bit rounding over the whole tensor, as a dynamic quantization does."""
    values, *rest = inputs
    low, high = values.detach().amin().clamp(max=0), values.detach().amax().clamp(min=0)
    scale = ((high - low) / 255).clamp(min=1e-12)
    zero = (-low / scale).round()
    rounded = (((values / scale).round() + zero).clamp(0, 255) - zero) * scale
    return (values + (rounded - values).detach(), *rest)
