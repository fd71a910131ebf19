"""Functions of the module `orthanc` that register callbacks and call the REST API."""

import re
from dataclasses import dataclass

from plugin.orthanc_api.arguments import as_bytes, as_callback, as_text
from plugin.orthanc_api.callbacks import Callback, Callbacks, PluginRequest
from plugin.orthanc_api.errors import ErrorCode, failure
from plugin.orthanc_api.router import RestApi, split_query


@dataclass(frozen=True, slots=True)
class RestFunctions:
    """The functions by their names in orthanc-python; arguments are positional, as there."""

    rest: RestApi
    callbacks: Callbacks

    def RegisterOnChangeCallback(self, callback: Callback, /) -> None:
        """Register `callback(change_type, level, resource_id)`. Raises RuntimeError for a second one."""
        _only_one(self.callbacks.on_change, "on-changes callback")
        self.callbacks.on_change = as_callback(callback)

    def RegisterOnStoredInstanceCallback(self, callback: Callback, /) -> None:
        """Register `callback(instance, instance_id)`. Raises RuntimeError for a second one."""
        _only_one(self.callbacks.on_stored, "on-stored-instance callback")
        self.callbacks.on_stored = as_callback(callback)

    def RegisterRestCallback(self, pattern: str, callback: Callback, /) -> None:
        """Register `callback(output, uri, **request)` for paths that match the regular expression."""
        self.callbacks.routes.append((re.compile(as_text(pattern)), as_callback(callback)))

    def RegisterIncomingHttpRequestFilter(self, callback: Callback, /) -> None:
        """Register `callback(uri, **request)`, which returns whether a request is accepted. One at most."""
        _only_one(self.callbacks.http_filter, "HTTP filter")
        self.callbacks.http_filter = as_callback(callback)

    def ExtendOrthancExplorer(self, javascript: str, /) -> None:
        """Do nothing: the node has no Orthanc Explorer."""
        as_text(javascript)

    def SetRootUri(self, uri: str, /) -> None:
        """Do nothing: the node has no Orthanc Explorer."""
        as_text(uri)

    def SetDescription(self, description: str, /) -> None:
        """Do nothing: the node has no Orthanc Explorer."""
        as_text(description)

    def RestApiGet(self, uri: str, /) -> bytes:
        """Return the body of the response to GET. Raises OrthancException."""
        return self.rest.handle("GET", as_text(uri))

    def RestApiPost(self, uri: str, body: str | bytes, /) -> bytes:
        """Return the body of the response to POST. Raises OrthancException."""
        return self.rest.handle("POST", as_text(uri), as_bytes(body))

    def RestApiPut(self, uri: str, body: str | bytes, /) -> bytes:
        """Return the body of the response to PUT. Raises OrthancException."""
        return self.rest.handle("PUT", as_text(uri), as_bytes(body))

    def RestApiDelete(self, uri: str, /) -> None:
        """Call DELETE on the REST API. Raises OrthancException."""
        self.rest.handle("DELETE", as_text(uri))

    def RestApiGetAfterPlugins(self, uri: str, /) -> bytes:
        """Do as RestApiGet, with the plugin's own routes first."""
        return self._after_plugins("GET", as_text(uri))

    def RestApiPostAfterPlugins(self, uri: str, body: str | bytes, /) -> bytes:
        """Do as RestApiPost, with the plugin's own routes first."""
        return self._after_plugins("POST", as_text(uri), as_bytes(body))

    def RestApiPutAfterPlugins(self, uri: str, body: str | bytes, /) -> bytes:
        """Do as RestApiPut, with the plugin's own routes first."""
        return self._after_plugins("PUT", as_text(uri), as_bytes(body))

    def RestApiDeleteAfterPlugins(self, uri: str, /) -> None:
        """Do as RestApiDelete, with the plugin's own routes first."""
        self._after_plugins("DELETE", as_text(uri))

    def _after_plugins(self, method: str, uri: str, body: bytes = b"") -> bytes:
        path, arguments = split_query(uri) if method == "GET" else (uri, {})
        response = self.callbacks.handle(PluginRequest(method, path, body, arguments=arguments))
        if response is None:
            return self.rest.handle(method, uri, body)
        if not response.is_success:
            raise failure(ErrorCode.UNKNOWN_RESOURCE)
        return response.body


def _only_one(registered: Callback | None, what: str) -> None:
    if registered is not None:
        raise RuntimeError(f"Can only register one Python {what}")
