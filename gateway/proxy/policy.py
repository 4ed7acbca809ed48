"""The team's policy. Refusals list the allowed values, which come from the operator."""

from collections.abc import Collection, Iterable

from gateway.config.models import AUTO
from gateway.config.settings import Settings
from gateway.core.errors import InvalidRequest, NotPermitted
from gateway.core.model import ImageRequest, Team

_NO_QUALITY = " A request without a quality counts as 'auto'."


def check_policy(team: Team, request: ImageRequest) -> None:
    """Raise NotPermitted if the team's policy forbids the request.

    The codes are model_not_allowed, size_not_allowed, quality_not_allowed and n_not_allowed;
    `param` names the field. A request without a quality counts as "auto", because then the upstream
    chooses; "auto" has to be allowed like any other size or quality.
    """
    _check("model", "models", request.model, team.models)
    _check("size", "sizes", request.size, team.sizes)
    quality, hint = (request.quality, "") if request.quality else (AUTO, _NO_QUALITY)
    _check("quality", "qualities", quality, team.qualities, hint)
    if team.max_n is not None and request.n > team.max_n:
        raise NotPermitted(
            f"This team may request at most {team.max_n} images at once.",
            param="n",
            code="n_not_allowed",
        )


def check_form(request: ImageRequest, settings: Settings) -> None:
    """Raise InvalidRequest if the client asks for URLs, and the gateway cannot serve any."""
    if request.response_format == "url" and not settings.has_urls:
        raise InvalidRequest(
            "This gateway serves no links to pictures: leave response_format out, or send "
            "'b64_json'.",
            param="response_format",
            code="unsupported_parameter",
        )


def visible_models(team: Team, models: Iterable[str]) -> list[str]:
    """Return the models that the team may use, in the configuration's order."""
    return [name for name in models if team.models is None or name in team.models]


def _check(
    field: str, plural: str, value: str, allowed: Collection[str] | None, hint: str = ""
) -> None:
    if allowed is None or value in allowed:
        return
    raise NotPermitted(
        f"This team may only use these {plural}: {', '.join(allowed) or 'none'}.{hint}",
        param=field,
        code=f"{field}_not_allowed",
    )
