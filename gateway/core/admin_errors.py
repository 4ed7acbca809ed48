"""Errors that only the admin port has. They cost nothing, and no SDK repeats a request there."""

from gateway.core.errors import GatewayError, InvalidRequest, NotPermitted, Unauthenticated


class NotAdmin(Unauthenticated):
    """The admin token is missing or wrong."""

    code = "invalid_admin_token"
    text = "A valid admin token is required: send it as 'Authorization: Bearer ...'."


class ViewerOnly(NotPermitted):
    """The admin token may read but not change."""

    code = "role_not_allowed"
    text = "This token has the viewer role: it may read, but not change anything."


class ForeignOrigin(NotPermitted):
    """The session's cookie came with a request from another site than the dashboard."""

    code = "foreign_origin"
    text = (
        "A session only works for requests from the dashboard itself. Behind a proxy that changes "
        "the Host header, set [server] admin_public_url."
    )


class AdminOff(GatewayError):
    """No admin token is configured, so the admin port only serves metrics and health."""

    status = 404
    type = "invalid_request_error"
    code = "admin_off"
    outcome = "not_found"
    text = "The admin API is off: no admin token is configured. Set GATEWAY_ADMIN_TOKEN."


class NoSuchThing(InvalidRequest):
    """There is no team or key of this name."""

    status = 404
    code = "no_such_thing"
    outcome = "not_found"


class Conflicting(InvalidRequest):
    """The current state forbids the change.

    Only the admin API uses 409: no image is bought there, so a retry is harmless.
    """

    status = 409
    code = "conflict"


class PreconditionFailed(InvalidRequest):
    """It has changed since the client read it (RFC 9110, section 13.1.1)."""

    status = 412
    code = "precondition_failed"
