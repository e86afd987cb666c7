"""The HTTP face: v1b3's paths, requests and answers, as google-api-python-client expects them."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.exceptions import NotFound
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from local.dataflow import page
from local.dataflow.api_error import ApiError
from local.dataflow.jobs import Jobs
from local.dataflow.monitoring import Monitoring
from local.dataflow.templates import check_environment, check_parameters, parse_template

LOCATION = "/v1b3/projects/{project}/locations/{location}"
SUMMARY_FIELDS = (
    "id",
    "projectId",
    "location",
    "name",
    "type",
    "currentState",
    "currentStateTime",
    "createTime",
    "startTime",
)
"""What lists show of a job, and get without a view; what more Dataflow may show then, it does not promise."""
FULL_VIEWS = {"JOB_VIEW_ALL", "JOB_VIEW_DESCRIPTION"}


class LaunchParameter(BaseModel):
    """LaunchFlexTemplateParameter, without the fields that the local Dataflow has no use for."""

    model_config = ConfigDict(extra="forbid")

    jobName: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,1022}[a-z0-9])?$")]
    containerSpecGcsPath: str
    parameters: dict[str, str] = {}
    environment: dict[str, Any] = {}
    update: bool = False
    transformNameMappings: dict[str, str] = {}


class LaunchRequest(BaseModel):
    """LaunchFlexTemplateRequest."""

    model_config = ConfigDict(extra="forbid")

    launchParameter: LaunchParameter
    validateOnly: bool = False


def application(jobs: Jobs) -> FastAPI:
    """The service over `jobs`, which it closes when it ends."""

    monitoring = Monitoring(jobs.stream_folders)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.close()

    app = FastAPI(title="Local Dataflow", lifespan=lifespan)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/", response_class=HTMLResponse)
    def show_jobs() -> str:
        return page.of_jobs(jobs.all())

    @app.get("/jobs/{job_id}", response_class=HTMLResponse)
    def show_job(job_id: str) -> str:
        for job in jobs.all():
            if job["id"] == job_id:
                messages = jobs.messages(job["projectId"], job["location"], job_id, "JOB_MESSAGE_DEBUG")
                return page.of_job(job, messages, jobs.log(job_id, page.LOG_BYTES))
        raise ApiError("NOT_FOUND", f"There is no job {job_id}. All jobs are at /.")

    @app.post(f"{LOCATION}/flexTemplates:launch")
    def launch(project: str, location: str, request: LaunchRequest) -> dict[str, Any]:
        wanted = request.launchParameter
        template = parse_template(_read(project, wanted.containerSpecGcsPath), wanted.containerSpecGcsPath)
        check_parameters(template, wanted.parameters)
        check_environment(wanted.environment, streaming=template.streaming)
        if request.validateOnly:
            return {}
        job = jobs.launch(
            project,
            location,
            wanted.jobName,
            template,
            wanted.parameters,
            wanted.environment,
            update=wanted.update,
            transform_names=wanted.transformNameMappings,
        )
        return {"job": job}

    @app.get(f"{LOCATION}/jobs")
    def list_jobs(
        project: str,
        location: str,
        kind: Annotated[Literal["UNKNOWN", "ACTIVE"], Query(alias="filter")] = "UNKNOWN",
        name: str = "",
        pageSize: int = 0,
        pageToken: str = "",
    ) -> dict[str, Any]:
        found, token = jobs.page(project, location, kind, name, pageSize, pageToken)
        # As in Google's JSON, what is empty is left out.
        answer: dict[str, Any] = {"jobs": [_summary(job) for job in found]} if found else {}
        return answer | ({"nextPageToken": token} if token else {})

    @app.get(f"{LOCATION}/jobs/{{job_id}}")
    def get_job(
        project: str,
        location: str,
        job_id: str,
        view: Literal[
            "JOB_VIEW_UNKNOWN", "JOB_VIEW_SUMMARY", "JOB_VIEW_ALL", "JOB_VIEW_DESCRIPTION"
        ] = "JOB_VIEW_UNKNOWN",
    ) -> dict[str, Any]:
        job = jobs.get(project, location, job_id)
        return job if view in FULL_VIEWS else _summary(job)

    @app.put(f"{LOCATION}/jobs/{{job_id}}")
    def update_job(
        project: str, location: str, job_id: str, requestedState: Annotated[str, Body(embed=True)]
    ) -> dict[str, Any]:
        return jobs.request_state(project, location, job_id, requestedState)

    @app.get(f"{LOCATION}/jobs/{{job_id}}/messages")
    def list_messages(
        project: str,
        location: str,
        job_id: str,
        minimumImportance: Literal[
            "JOB_MESSAGE_IMPORTANCE_UNKNOWN",
            "JOB_MESSAGE_DEBUG",
            "JOB_MESSAGE_DETAILED",
            "JOB_MESSAGE_BASIC",
            "JOB_MESSAGE_WARNING",
            "JOB_MESSAGE_ERROR",
        ] = "JOB_MESSAGE_IMPORTANCE_UNKNOWN",
    ) -> dict[str, Any]:
        least = minimumImportance.replace("IMPORTANCE_UNKNOWN", "DEBUG")
        messages = jobs.messages(project, location, job_id, least)
        return {"jobMessages": messages} if messages else {}

    @app.get("/v3/projects/{project}/timeSeries")
    def list_time_series(project: str, wanted: Annotated[str, Query(alias="filter")]) -> dict[str, Any]:
        return monitoring.time_series(project, wanted)

    @app.exception_handler(ApiError)
    def refuse(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.http_code)

    @app.exception_handler(RequestValidationError)
    def refuse_shape(request: Request, error: RequestValidationError) -> JSONResponse:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        return refuse(request, ApiError("INVALID_ARGUMENT", f"Invalid request: {problems}"))

    @app.exception_handler(HTTPException)
    def refuse_path(request: Request, error: HTTPException) -> JSONResponse:
        message = f"The local Dataflow does not speak {request.method} {request.url.path}: {error.detail}"
        return refuse(request, ApiError("NOT_FOUND", message))

    @app.exception_handler(Exception)
    def fail(request: Request, error: Exception) -> JSONResponse:
        return refuse(request, ApiError("INTERNAL", f"Internal error encountered: {error!r}"))

    return app


def _summary(job: dict[str, Any]) -> dict[str, Any]:
    return {key: job[key] for key in SUMMARY_FIELDS if key in job}


def _read(project: str, uri: str) -> bytes:
    found = re.fullmatch(r"gs://([^/]+)/(.+)", uri)
    if found is None:
        message = f"Invalid template file: {uri!r} is not of the form gs://bucket/object"
        raise ApiError("INVALID_ARGUMENT", message)
    try:
        text: bytes = _storage_client(project).bucket(found[1]).blob(found[2]).download_as_bytes()
    except NotFound:
        raise ApiError("INVALID_ARGUMENT", f"Unable to open template file: {uri}") from None
    return text


@functools.cache
def _storage_client(project: str) -> storage.Client:
    return storage.Client(project=project, credentials=AnonymousCredentials())
