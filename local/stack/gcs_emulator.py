"""The Cloud Storage emulator, with one thing added: run by the Python of .venv-emulators.

An object of `Content-Encoding: gzip` is served as it is stored, with that header, to a client that takes
gzip, and else decompressed and whole, whatever range was asked for. So does Cloud Storage
(cloud.google.com/storage/docs/transcoding); the emulator knows nothing of it.
"""

from __future__ import annotations

import gzip
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator.handlers import objects

_download = objects.download


def _download_encoded(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
    _download(request, response, storage, *args, **kwargs)
    if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    name = request.params["bucket_name"], request.params["object_id"]
    if storage.get_file_obj(*name).get("contentEncoding") != "gzip":
        return
    if "gzip" in request.get_header("accept-encoding", ""):
        response["Content-Encoding"] = "gzip"
        return
    response.status = HTTPStatus.OK
    response._headers.pop("Content-Range", None)
    response.write_file(gzip.decompress(storage.get_file(*name)), response["Content-type"])


if __name__ == "__main__":
    # Before the server is imported, which keeps the functions that it finds.
    objects.download = _download_encoded

    from gcp_storage_emulator.__main__ import main

    main()
