from __future__ import annotations

import pickle

import pytest
import requests

from steerline.config.tracking import TrackingSpec
from steerline.errors import TrackingError
from steerline.tracking.backend import Refused, Unavailable
from steerline.tracking.connection import TrackingDeniedError, TrackingRefusedError, connect, patiently, sort_out
from steerline.tracking.references import RunRef, resolve_uri, run_url
from tests.unit.tracking.fake import RUN, Clock

URI = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def _keep_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    # connect() sets limits for the whole process; monkeypatch puts the environment back.
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, {"MLFLOW_DISABLE_TELEMETRY": "true"}.get(name, "0"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


def answer(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("x", response=response)


def rest(code: str) -> Exception:
    from mlflow.exceptions import RestException

    return RestException({"error_code": code, "message": "m"})


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "BAD_REQUEST"])
def test_mlflows_own_refusals_are_final(code: str) -> None:
    assert isinstance(sort_out(rest(code)), Refused)


@pytest.mark.parametrize(
    "code",
    ["INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "PERMISSION_DENIED", "UNAUTHENTICATED"],
)
def test_troubles_of_the_server_and_missing_rights_are_waited_out(code: str) -> None:
    assert isinstance(sort_out(rest(code)), Unavailable)


def test_a_proxys_page_says_nothing_about_the_record() -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND, INVALID_PARAMETER_VALUE

    assert isinstance(sort_out(MlflowException("404 <html>", error_code=ENDPOINT_NOT_FOUND)), Unavailable)
    assert isinstance(sort_out(MlflowException("bad name", error_code=INVALID_PARAMETER_VALUE)), Refused)


def test_artefact_answers_are_sorted_by_status() -> None:
    assert isinstance(sort_out(answer(400)), Refused)
    assert isinstance(sort_out(answer(413)), Refused)
    for status in (401, 403, 404, 408, 429, 500, 503):
        assert isinstance(sort_out(answer(status)), Unavailable)
    assert isinstance(sort_out(requests.ConnectionError()), Unavailable)
    assert isinstance(sort_out(FileNotFoundError()), Refused)


def test_other_errors_are_nobodys_business() -> None:
    assert sort_out(KeyError("x")) is None


def test_a_closed_port_is_noticed_at_once_and_as_unavailable() -> None:
    client = connect(URI)
    with pytest.raises(Exception, match="failed with exception") as caught:
        client.get_run("0" * 32)
    assert isinstance(sort_out(caught.value), Unavailable)


def test_a_call_is_repeated_until_the_server_is_there() -> None:
    clock, answers = Clock(), [Unavailable("a"), Unavailable("b"), 7]

    def call() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, int)
        return answer

    assert patiently(call, what="ask", tracking_uri=URI, clock=clock, sleep=clock.sleep) == 7
    assert clock.waits == [0.25, 0.5]


def test_patience_ends_with_the_address_and_the_remedy() -> None:
    clock = Clock()

    def away() -> None:
        raise Unavailable("connection refused")

    with pytest.raises(TrackingError) as caught:
        patiently(away, what="begin the run", tracking_uri=URI, timeout_s=30.0, clock=clock, sleep=clock.sleep)
    assert clock.now <= 30.0
    text = str(caught.value)
    assert "cannot be reached to begin the run" in text
    assert URI in text
    assert "steerline up" in text


def test_a_refusal_is_not_repeated() -> None:
    clock = Clock()

    def refuse() -> None:
        raise Refused("no such experiment")

    with pytest.raises(TrackingRefusedError, match="refused to"):
        patiently(refuse, what="begin the run", tracking_uri=URI, clock=clock, sleep=clock.sleep)
    assert clock.waits == []


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED"])
def test_who_asks_without_the_right_is_told_at_once_and_records_wait_for_it(code: str) -> None:
    clock = Clock()

    def deny() -> None:
        raise rest(code)

    with pytest.raises(TrackingDeniedError, match="refused to begin the run") as caught:
        patiently(deny, what="begin the run", tracking_uri=URI, clock=clock, sleep=clock.sleep)
    assert clock.waits == []
    assert code in str(caught.value)
    assert "MLFLOW_TRACKING_TOKEN" in str(caught.value)


def test_the_address_comes_from_the_spec_then_the_environment_then_the_local_stack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://env:1/")
    assert resolve_uri(TrackingSpec(uri="http://spec:2")) == "http://spec:2"
    assert resolve_uri(TrackingSpec()) == "http://env:1"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert resolve_uri(TrackingSpec()) == "http://127.0.0.1:5000"


def test_an_address_with_credentials_is_refused() -> None:
    with pytest.raises(TrackingError, match="carries credentials"):
        resolve_uri(TrackingSpec(uri="http://me:pw@host"))


def test_a_run_reference_travels_and_has_a_page() -> None:
    assert pickle.loads(pickle.dumps(RUN)) == RUN
    assert run_url(RunRef("http://h:1", "3", "abc")) == "http://h:1/#/experiments/3/runs/abc"
