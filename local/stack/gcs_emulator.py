"""The Cloud Storage emulator, with four things added: run by the Python of .venv-emulators.

Who asks for a generation gets that one or 404: an object that was written anew has another, and in a bucket
without versions the old one is gone (cloud.google.com/storage/docs/json_api/v1/objects/get). The emulator
gives whatever is there, and does not say which that is.

Who writes or deletes an object if it is of a generation (0: if there is none) is refused with 412 if it is
not, and so is an upload that began before somebody else wrote the object
(cloud.google.com/storage/docs/request-preconditions). The emulator does it all the same.

A bucket has a page for people, at /<bucket>/.

An object of `Content-Encoding: gzip` is served as it is stored, with that header, to a client that takes
gzip, and else decompressed and whole, whatever range was asked for. So does Cloud Storage
(cloud.google.com/storage/docs/transcoding); the emulator knows nothing of it.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

_get, _download, _delete = objects.get, objects.download, objects.delete
_insert, _upload_partial = objects.insert, objects.upload_partial
Handler = Callable[..., None]


def _of_its_generation(handler: Handler) -> Handler:
    def strict(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
        handler(request, response, storage, *args, **kwargs)
        if response.status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        name = request.params["bucket_name"], request.params["object_id"]
        asked, found = request.query.get("generation"), storage.get_file_obj(*name).get("generation")
        response["X-Goog-Generation"] = found
        if asked and asked != [found]:
            response.status = HTTPStatus.NOT_FOUND
            response._headers.pop("Content-Range", None)
            response.write_file(f"No such object: {'/'.join(name)}, generation {asked[0]}", "text/plain")

    return strict


def _if_of_its_generation(handler: Handler) -> Handler:
    def strict(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
        # An upload in parts goes on at an address that has what its beginning was asked with.
        [wanted] = request.query.get("ifGenerationMatch", [None])
        if wanted is not None:
            try:
                name = _object_of(request, storage)
                found = storage.get_file_obj(request.params["bucket_name"], name)["generation"]
            except NotFound:
                found = "0"
            if found != wanted:
                response.status = HTTPStatus.PRECONDITION_FAILED
                message = f"The object is of generation {found}, not {wanted}."
                response.json({"error": {"code": response.status.value, "message": message}})
                return
        handler(request, response, storage, *args, **kwargs)

    return strict


def _object_of(request: Any, storage: Any) -> Any:
    """The name of the object that a request writes or deletes."""
    data = request.data  # to its end, whatever the answer
    if "object_id" in request.params:
        return request.params["object_id"]
    if "upload_id" in request.query:
        return storage.get_resumable_file_obj(request.query["upload_id"][0])["name"]
    if "name" in request.query:
        return request.query["name"][0]
    return data.get("meta", data)["name"]


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


def _browse(request: Any, response: Any, storage: Any, *args: Any, **kwargs: Any) -> None:
    """Show the folders and objects below `?prefix=` of a bucket to a person."""
    bucket, prefix = request.params["bucket_name"], request.query.get("prefix", [""])[0]
    try:
        files, folders = storage.get_file_list(bucket, prefix, "/", None)
    except NotFound:
        response.status = HTTPStatus.NOT_FOUND
        response.write_file(f"There is no bucket {bucket}.", "text/plain")
        return
    links = [(f"/{bucket}/?prefix={quote(name)}", name, "") for name in sorted(folders)]
    links += [
        (f"/{bucket}/{quote(file['name'])}", file["name"], f"{int(file['size']):,} bytes") for file in files
    ]
    rows = "".join(
        f'<tr><td><a href="{html.escape(link)}">{html.escape(name)}</a><td>{size}'
        for link, name, size in links
    )
    title = html.escape(f"gs://{bucket}/{prefix}")
    up = f'<p><a href="/{bucket}/">All of the bucket</a></p>' if prefix else ""
    response.write_file(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem;color-scheme:light dark}"
        f"td{{padding-right:1rem}}</style><h1>{title}</h1>{up}<table>{rows or 'Nothing is here.'}</table>",
        "text/html; charset=utf-8",
    )


if __name__ == "__main__":
    # Before the server is imported, which keeps the functions that it finds.
    objects.download = _of_its_generation(_download_encoded)
    objects.get = _of_its_generation(_get)
    objects.delete = _if_of_its_generation(_delete)
    objects.insert = _if_of_its_generation(_insert)
    objects.upload_partial = _if_of_its_generation(_upload_partial)

    from gcp_storage_emulator import server
    from gcp_storage_emulator.__main__ import main

    server.HANDLERS = ((r"^/(?P<bucket_name>[-.\w]+)/$", {"GET": _browse}), *server.HANDLERS)
    main()
