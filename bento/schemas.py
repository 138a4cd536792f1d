"""What comes over HTTP: request models, their limits, and the errors they end in; `answer_schemas.py` has the answers.

The OpenAPI document is made from these models, so it cannot say something else than what is checked.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from bento.errors import RetortError
from bento.predictor import Text

MAX_BODY_BYTES = 1 << 20
MAX_TEXTS = 256
MAX_CHARACTERS = 20_000
MAX_KEY_CHARACTERS = 256
DEADLINE_HEADER = "X-Deadline-Ms"
"""How many milliseconds the client waits."""


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


InputText = Annotated[str, Field(max_length=MAX_CHARACTERS, json_schema_extra={"pattern": r"\S"})]
Pair = Annotated[list[InputText], Field(min_length=2, max_length=2)]
RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@/+=-]{1,64}$")]
Label = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00]*[^\s\x00][^\x00]*$")]


ONE_OF_TEXT_AND_TEXTS: list[JsonValue] = [
    {"required": ["text"], "properties": {"text": {"type": "string"}, "texts": {"type": "null"}}},
    {
        "required": ["texts"],
        "properties": {"texts": {"type": "array"}, "text": {"type": "null"}, "text_pair": {"type": "null"}},
    },
]
"""What `PredictRequest.inputs` checks, in the words of JSON Schema."""


class PredictRequest(Message):
    """Exactly one of `text` and `texts`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": ONE_OF_TEXT_AND_TEXTS})

    text: InputText | None = None
    """One sentence."""
    text_pair: InputText | None = None
    """The second sentence, for a model of pairs; only with `text`."""
    texts: Annotated[list[InputText | Pair], Field(min_length=1, max_length=MAX_TEXTS)] | None = None
    """Sentences, or pairs of them as lists of two."""
    request_id: RequestId | None = None
    """The caller's name for this request, used by /feedback; made here when absent. The same texts may come again under
    it; other texts are a 409."""
    key: Annotated[str, Field(max_length=MAX_KEY_CHARACTERS)] | None = None
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
    replace: bool = False
    """Correct the label that the item has; the earlier one is kept as history. Without it the first label stands."""
    audit: bool = False
    """A person at the audit queue says so, not whoever sent the request."""


class V2Tensor(BaseModel):
    """A tensor of the open inference protocol; fields that we do not read are allowed, as the protocol says."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    name: Annotated[str, Field(json_schema_extra={"const": "text"})]
    shape: Annotated[list[int], Field(json_schema_extra={"minItems": 1, "maxItems": 2})]
    datatype: Annotated[str, Field(json_schema_extra={"const": "BYTES"})]
    data: list[Any] | None = None
    """Its texts; absent when they stand behind the JSON, as the binary extension has it."""
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

    def key(self) -> str | None:
        """The parameter `key`, as /predict's. Raises: ApiError when it is no string."""
        key = self.parameters.get("key")
        if not (key is None or (isinstance(key, str) and len(key) <= MAX_KEY_CHARACTERS)):
            message = f"expected a string of at most {MAX_KEY_CHARACTERS} characters as the parameter 'key'"
            raise ApiError(422, "key", message, "parameters.key")
        return key

    def texts(self, binary: bytes = b"") -> list[Text]:
        """The texts in the tensor `text`, or in `binary`. Raises: ApiError when it is not BYTES of shape [N]."""
        tensor = self.inputs[0]
        if tensor.name != "text" or tensor.datatype != "BYTES":
            got = f"{tensor.name!r} of {tensor.datatype}"
            raise ApiError(422, "input_tensor", f"expected the input 'text' of BYTES, got {got}", "inputs[0]")
        data = _binary_texts(binary) if tensor.data is None else tensor.data
        if tensor.shape not in ([len(data)], [len(data), 1]):
            message = f"expected shape [{len(data)}] for {len(data)} texts, got {tensor.shape[:4]}"
            raise ApiError(422, "input_shape", message, "inputs[0].shape")
        request = parse(PredictRequest, {"texts": data})
        return request.inputs()


def _binary_texts(binary: bytes) -> list[str]:
    """BYTES of the binary extension: each text is UTF-8 behind its length, four bytes, little-endian."""
    texts: list[str] = []
    start = 0
    while start < len(binary) and len(texts) <= MAX_TEXTS:
        end = start + 4 + int.from_bytes(binary[start : start + 4], "little")
        if end > len(binary):
            message = f"text {len(texts)} ends behind the body; expected four bytes with each text's length, then it"
            raise ApiError(422, "binary_tensor", message, "inputs[0]")
        try:
            texts.append(binary[start + 4 : end].decode())
        except UnicodeDecodeError as error:
            raise ApiError(422, "binary_tensor", f"text {len(texts)} is not UTF-8: {error}", "inputs[0]") from error
        start = end
    return texts


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
        raise ApiError(400, "invalid_json", f"expected JSON in UTF-8, not compressed; {error}") from error


def _field(location: tuple[int | str, ...]) -> str | None:
    """('texts', 3, 'str') -> texts[3]; names of union branches are no part of the path."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif not part.startswith(("str", "list[", "constrained-", "function-")):
            path += f".{part}" if path else part
    return path or None
