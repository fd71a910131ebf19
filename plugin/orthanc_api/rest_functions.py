"""The functions of the module `orthanc` by which a plugin registers its callbacks and asks the REST API."""

import re
from dataclasses import dataclass

from plugin.orthanc_api.arguments import callback_of, content_of, text
from plugin.orthanc_api.callbacks import Callback, Callbacks, Request
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.router import OrthancRest, split_query


@dataclass(frozen=True, slots=True)
class RestFunctions:
    """Each under the name that the module has it by; arguments are positional, as there."""

    rest: OrthancRest
    callbacks: Callbacks

    def RegisterOnChangeCallback(self, callback: Callback, /) -> None:
        """callback(change_type, level, resource_id). Raises RuntimeError for a second one."""
        _only_one(self.callbacks.on_change, "on-changes callback")
        self.callbacks.on_change = callback_of(callback)

    def RegisterOnStoredInstanceCallback(self, callback: Callback, /) -> None:
        """callback(instance, instance_id). Raises RuntimeError for a second one."""
        _only_one(self.callbacks.on_stored, "on-stored-instance callback")
        self.callbacks.on_stored = callback_of(callback)

    def RegisterRestCallback(self, pattern: str, callback: Callback, /) -> None:
        """callback(output, uri, **request) for paths that match the regular expression."""
        self.callbacks.routes.append((re.compile(text(pattern)), callback_of(callback)))

    def RegisterIncomingHttpRequestFilter(self, callback: Callback, /) -> None:
        """callback(uri, **request) says whether a request is let in. Raises RuntimeError for a second one."""
        _only_one(self.callbacks.let_in, "HTTP filter")
        self.callbacks.let_in = callback_of(callback)

    def ExtendOrthancExplorer(self, javascript: str, /) -> None:
        """Nothing: there is no Orthanc Explorer here."""
        text(javascript)

    def SetRootUri(self, uri: str, /) -> None:
        """Nothing: there is no Orthanc Explorer that would link to it."""
        text(uri)

    def SetDescription(self, description: str, /) -> None:
        """Nothing: there is no Orthanc Explorer that would show it."""
        text(description)

    def RestApiGet(self, uri: str, /) -> bytes:
        """The body of the answer."""
        return self.rest.answer("GET", text(uri))

    def RestApiPost(self, uri: str, body: str | bytes, /) -> bytes:
        """The body of the answer."""
        return self.rest.answer("POST", text(uri), content_of(body))

    def RestApiPut(self, uri: str, body: str | bytes, /) -> bytes:
        """The body of the answer."""
        return self.rest.answer("PUT", text(uri), content_of(body))

    def RestApiDelete(self, uri: str, /) -> None:
        """Nothing."""
        self.rest.answer("DELETE", text(uri))

    def RestApiGetAfterPlugins(self, uri: str, /) -> bytes:
        """As RestApiGet, but a plugin's own routes go first."""
        return self._after_plugins("GET", text(uri))

    def RestApiPostAfterPlugins(self, uri: str, body: str | bytes, /) -> bytes:
        """As RestApiPost, but a plugin's own routes go first."""
        return self._after_plugins("POST", text(uri), content_of(body))

    def RestApiPutAfterPlugins(self, uri: str, body: str | bytes, /) -> bytes:
        """As RestApiPut, but a plugin's own routes go first."""
        return self._after_plugins("PUT", text(uri), content_of(body))

    def RestApiDeleteAfterPlugins(self, uri: str, /) -> None:
        """As RestApiDelete, but a plugin's own routes go first."""
        self._after_plugins("DELETE", text(uri))

    def _after_plugins(self, method: str, uri: str, body: bytes = b"") -> bytes:
        path, arguments = split_query(uri) if method == "GET" else (uri, {})
        answer = self.callbacks.answer(Request(method, path, body, arguments=arguments))
        if answer is None:
            return self.rest.answer(method, uri, body)
        if not answer.is_success:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
        return answer.body


def _only_one(registered: Callback | None, what: str) -> None:
    if registered is not None:
        raise RuntimeError(f"Can only register one Python {what}")
