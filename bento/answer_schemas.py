"""What the service answers, as the OpenAPI document describes it; the handlers write it without these models."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from bento.task_types import Task


class Prediction(BaseModel):
    """The most probable label of one text."""

    label: str
    probability: Annotated[float, Field(ge=0, le=1)]
    abstained: bool
    """Whether the model is too unsure, or sees input out of scope: a person had better answer."""
    probabilities: dict[str, float] | None = None
    """Every label's probability, with `return_all`."""


class LabelSet(BaseModel):
    """The labels of one text that reach the model's threshold, from a multi_label model."""

    labels: list[str]
    label_probabilities: list[float]
    """Of each of `labels`."""
    probabilities: dict[str, float] | None = None
    """Every label's probability, with `return_all`."""


class Score(BaseModel):
    """The number that a model of scores gives one text or pair."""

    score: float


class Entity(BaseModel):
    """One entity: a part of the text and what it is."""

    text: str
    label: str
    """Its type."""
    start: int
    """Its first character."""
    end: int
    """The character behind its last one."""
    score: float
    """Mean probability of its words' tags."""


class Entities(BaseModel):
    """What a model of entities finds in one text, in order."""

    entities: list[Entity]


class ModelIdentity(BaseModel):
    """The model that answered."""

    name: str
    version: str
    model_sha256: str
    bento: str


class PredictResponse(BaseModel):
    """Predictions in the order of the texts."""

    request_id: str
    predictions: list[Prediction | LabelSet | Score | Entities]
    model: ModelIdentity


class FeedbackResponse(BaseModel):
    """The label as stored."""

    request_id: str
    item: int
    label: str
    predicted: str
    agrees: bool


class IdentityResponse(ModelIdentity):
    """The model and what it can answer."""

    labels: list[str]
    task: Task
    """What it answers."""
    pairs: bool
    """Whether each input is a pair of sentences."""
    max_tokens: int
    threads: int


class Candidate(BaseModel):
    """A label that the model thought possible."""

    label: str
    probability: float


class Proposal(BaseModel):
    """What a bigger model thinks is right; it never counts as a label."""

    label: str
    probability: float


class AuditItem(BaseModel):
    """A request that waits for a person's label."""

    request_id: str
    item: int
    text: str
    text_pair: str | None
    label: str
    received_at: float
    version: str
    candidates: list[Candidate]
    """The most probable labels, best first."""
    stream: Literal["random", "targeted"]
    """Drawn at random, which is what accuracy is measured on, or picked since it looks odd, which never is."""
    reason: str | None
    """Why it was picked."""
    proposal: Proposal | None


class AuditProgress(BaseModel):
    """Rows of both streams, of every caller."""

    random_waiting: int
    random_labelled: int
    targeted_waiting: int
    targeted_labelled: int


class AuditResponse(BaseModel):
    """The audit queue: random rows first, oldest first."""

    items: list[AuditItem]
    labels: list[str]
    progress: AuditProgress


class LiveResponse(BaseModel):
    """The process answers."""

    live: bool


class ReadyResponse(BaseModel):
    """Whether predictions are answered."""

    ready: bool
    reason: str | None
    """Why not."""


class V2ServerResponse(BaseModel):
    """What speaks the protocol here."""

    name: str
    version: str
    extensions: list[str]


class V2Ready(BaseModel):
    """Predictions are answered; else the answer is a 503."""

    name: str | None = None
    ready: bool


class V2TensorMetadata(BaseModel):
    """An input or output."""

    name: str
    datatype: str
    shape: list[int]


class V2ModelResponse(BaseModel):
    """The model as tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[V2TensorMetadata]
    outputs: list[V2TensorMetadata]
    parameters: dict[str, Any]


class V2OutputTensor(V2TensorMetadata):
    """An output, its values in row-major order."""

    data: list[Any]


class V2Response(BaseModel):
    """The outputs that were asked for."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, Any]
    outputs: list[V2OutputTensor]


class ErrorDetail(BaseModel):
    """Why a request was refused."""

    code: str
    message: str
    field: str | None = None


class ErrorResponse(BaseModel):
    """Every 4xx and 5xx answer."""

    error: ErrorDetail


class V2ErrorResponse(BaseModel):
    """Every 4xx and 5xx answer of the inference protocol."""

    error: str
    code: str
    field: str | None = None
