"""Fields of the forecast SMS's input."""

from typing import Any

from marshmallow import ValidationError, fields, validate
from werkzeug.routing import BaseConverter

from project.core.errors import NotFound
from project.core.http.input import Text
from project.weather.normalization import phone_number
from project.weather.numbers import ImpossibleNumberError, normalized, refusal
from project.weather.sphere import DECIMALS

MAX_FORECAST_LENGTH = 200


class Degrees(fields.Float):
    """A latitude or longitude; its decimal digits in a string are taken too, as forms send it."""

    def __init__(self, limit: int, **kwargs: Any) -> None:
        super().__init__(allow_nan=False, validate=validate.Range(-limit, limit), **kwargs)

    def _validated(self, value: Any) -> Any:
        if isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        degrees = super()._validated(value)
        return None if degrees is None else round(degrees, DECIMALS)


class ForecastText(fields.Raw):
    """What is forecast, as text; a number is taken as it is written."""

    def __init__(self, **kwargs: Any) -> None:
        length = {"minLength": 1, "maxLength": MAX_FORECAST_LENGTH}
        text = {"type": "string", "pattern": r"^[^\u0000-\u001f\u007f]*$", **length}
        super().__init__(metadata={"anyOf": [text, {"type": "number"}]}, **kwargs)
        self._as_text = Text(validate=validate.Length(1, MAX_FORECAST_LENGTH))

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> Any:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return self._as_text.deserialize(str(value) if is_number else value, attr, data)


class Flag(fields.Boolean):
    """Yes or no: true, false, 1, 0, also as text, as forms and queries send it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(truthy={True, "true", "1"}, falsy={False, "false", "0"}, **kwargs)


class Msisdn(fields.String):
    """A phone number in E.164, with or without its plus sign; read with it."""

    def __init__(self, **kwargs: Any) -> None:
        pattern = {"pattern": r"^[+ ]?[0-9]{4,17}$", **kwargs.pop("metadata", {})}
        super().__init__(metadata=pattern, **kwargs)

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        # A plus sign in a query is a space by the time it gets here.
        written = super()._deserialize(value, attr, data, **kwargs).strip()
        try:
            return normalized(written)
        except ImpossibleNumberError as error:
            raise ValidationError(str(error)) from error


class ServedMsisdn(Msisdn):
    """The number of a new subscriber: one that is served, with its country code."""

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        number = super()._deserialize(value, attr, data, **kwargs)
        reason = refusal(number, str(value).strip())
        if reason is not None:
            raise ValidationError(reason)
        return number


class MsisdnOfGateway(Msisdn):
    """A number as a gateway writes it, also with 00 before it and blanks between its digits."""

    def __init__(self) -> None:
        super().__init__(required=True, metadata={"pattern": r"^[+ ]?[0-9 ()-]{4,40}$"})

    def _deserialize(self, value: Any, attr: Any, data: Any, **kwargs: Any) -> str:
        written = phone_number(value) if isinstance(value, str) else value
        return super()._deserialize(written, attr, data, **kwargs)


class MsisdnConverter(BaseConverter):
    """A phone number in a path, with or without its plus sign."""

    regex = r"\+?[0-9]{1,17}"


def read_msisdn(written: str) -> str:
    """Return the number in a path as it is kept. Raises NotFound for one that no number is."""
    try:
        return normalized(written)
    except ImpossibleNumberError as error:
        raise NotFound(f"There is no subscriber {written}.") from error
