"""What goes over HTTP: request and answer models, their limits, and the errors they end in.

The OpenAPI document is made from these models, so it cannot say something else than what is checked.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bento.errors import RetortError
from bento.predictor import Text
from bento.task_types import Task

MAX_BODY_BYTES = 1 << 20
MAX_TEXTS = 256
MAX_CHARACTERS = 20_000


class ApiError(RetortError):
    """A request that cannot be answered, as status, code, message and the field at fault."""

    def __init__(
        self, status: int, code: str, message: str, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """`code` is for programs, `message` for people: expected, got, remedy."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The error as JSON."""
        return orjson.dumps({"error": {"code": self.code, "message": self.message, "field": self.field}})


class Message(BaseModel):
    """Base of everything that comes in: strict, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


InputText = Annotated[str, Field(max_length=MAX_CHARACTERS)]
Pair = Annotated[list[InputText], Field(min_length=2, max_length=2)]
RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@/+=-]{1,64}$")]
Label = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]


class PredictRequest(Message):
    """Exactly one of `text` and `texts`."""

    text: InputText | None = None
    """One sentence."""
    text_pair: InputText | None = None
    """The second sentence, for a model of pairs; only with `text`."""
    texts: Annotated[list[InputText | Pair], Field(min_length=1, max_length=MAX_TEXTS)] | None = None
    """Sentences, or pairs of them as lists of two."""
    request_id: RequestId | None = None
    """The caller's name for this request, used by /feedback; made here when absent. The same texts may come again under
    it; other texts are a 409."""
    key: Annotated[str, Field(max_length=256)] | None = None
    """Whom the request belongs to, so that the same key keeps getting the same model."""
    return_all: bool = False
    """Also answer the probability of every label."""

    def inputs(self) -> list[Text]:
        """The texts to classify, in order. Raises: ApiError for none, both, or an empty one."""
        if self.text is not None and self.texts is None:
            first = _filled(self.text, "text")
            return [first if self.text_pair is None else (first, _filled(self.text_pair, "text_pair"))]
        if self.texts is None or self.text is not None:
            raise ApiError(422, "text_or_texts", "expected exactly one of 'text' and 'texts'", "text")
        if self.text_pair is not None:
            message = "'text_pair' goes with 'text'; in 'texts' a pair is a list of two"
            raise ApiError(422, "pair_without_text", message, "text_pair")
        return [_input(value, f"texts[{index}]") for index, value in enumerate(self.texts)]


def _input(value: str | list[str], field: str) -> Text:
    if isinstance(value, str):
        return _filled(value, field)
    return _filled(value[0], f"{field}[0]"), _filled(value[1], f"{field}[1]")


def _filled(text: str, field: str) -> str:
    if not text.strip():
        raise ApiError(
            422, "empty_text", "expected a text with at least one visible character, got an empty one", field
        )
    return text


class FeedbackRequest(Message):
    """What was right for one item of an answered request."""

    request_id: RequestId
    label: Label
    item: Annotated[int, Field(ge=0)] | None = None
    """Position in the request's `texts`; may be left out when there was one text."""
    new_label: bool = False
    """Accept a label that the model does not have yet."""


class V2Tensor(BaseModel):
    """A tensor of the open inference protocol; fields that we do not read are allowed, as the protocol says."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class V2OutputName(BaseModel):
    """An output that the client wants."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    name: Literal["label", "probability", "probabilities", "abstained", "labels", "score", "entities"]


class V2Request(BaseModel):
    """`POST /v2/models/NAME/infer`."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    id: RequestId | None = None
    inputs: Annotated[list[V2Tensor], Field(min_length=1, max_length=1)]
    outputs: list[V2OutputName] | None = None
    parameters: dict[str, Any] = {}

    def texts(self) -> list[Text]:
        """The texts in the tensor `text`. Raises: ApiError when it is not BYTES of shape [N]."""
        tensor = self.inputs[0]
        if tensor.name != "text" or tensor.datatype != "BYTES":
            got = f"{tensor.name!r} of {tensor.datatype}"
            raise ApiError(422, "input_tensor", f"expected the input 'text' of BYTES, got {got}", "inputs[0]")
        if tensor.shape not in ([len(tensor.data)], [len(tensor.data), 1]):
            raise ApiError(
                422,
                "input_shape",
                f"expected shape [{len(tensor.data)}] for {len(tensor.data)} texts, got {tensor.shape}",
                "inputs[0].shape",
            )
        request = parse(PredictRequest, {"texts": tensor.data})
        return request.inputs()


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


class AuditItem(BaseModel):
    """A request drawn at random that waits for a person's label."""

    request_id: str
    item: int
    text: str
    text_pair: str | None
    label: str
    received_at: float
    version: str
    candidates: list[Candidate]
    """The most probable labels, best first."""


class AuditResponse(BaseModel):
    """The audit queue, oldest first."""

    items: list[AuditItem]
    labels: list[str]


class ErrorDetail(BaseModel):
    """Why a request was refused."""

    code: str
    message: str
    field: str | None = None


class ErrorResponse(BaseModel):
    """Every 4xx and 5xx answer."""

    error: ErrorDetail


M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], value: Any) -> M:
    """`value` as a `model`. Raises: ApiError 422 naming the first field at fault."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = _field(first["loc"])
        raise ApiError(422, first["type"], f"{field}: {first['msg']}" if field else first["msg"], field) from error


def decode(body: bytes) -> Any:
    """The JSON in a request's body. Raises: ApiError 400; lone surrogates and deep nesting are refused as well."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "invalid_json", f"expected a JSON object, got something else: {error}") from error


def _field(location: tuple[int | str, ...]) -> str | None:
    """('texts', 3, 'str') -> texts[3]; names of union branches are no part of the path."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("str", "list[", "constrained-", "function-")):
            path += f".{part}" if path else part
    return path or None
