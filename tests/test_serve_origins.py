"""Pages of elsewhere: foreign hosts and origins are refused, and every answer has its headers."""

import socket

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

import made_client
from made_client import WAV, WAV_TYPE
from made_server import MadePredictor
from multimodal_ser.serve import Settings, create_app, serving
from multimodal_ser.serve.middleware import HEADERS

ROUTES = [("GET", "/"), ("GET", "/docs"), ("GET", "/health"), ("GET", "/v1/models"),
          ("GET", "/openapi.json"), ("GET", "/static/page.js"), ("GET", "/static/"),
          ("GET", "/nothing"), ("POST", "/v1/predict"), ("POST", "/v1/analyze"),
          ("DELETE", "/v1/predict"), ("HEAD", "/"), ("OPTIONS", "/v1/predict")]  # fmt: skip


def ask(method, path, headers=None, settings=None, predictor=None, base="http://127.0.0.1:8000"):
    content = WAV if method == "POST" else None
    given = {**WAV_TYPE, **(headers or {})}
    return made_client.ask(
        method, path, settings, predictor, base=base, headers=given, content=content
    )


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_answer_has_the_headers(method, path):
    foreign = {"Host": "evil.example"}
    other = {"Origin": "https://evil.example"}
    for headers, status in (({}, None), (foreign, 421), (other, 403)):
        answer = ask(method, path, headers)
        assert status in (None, answer.status_code)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value, (name, answer.status_code)
        assert "access-control-allow-origin" not in answer.headers


def test_a_failure_of_the_server_has_the_headers_too():
    class Broken(MadePredictor):
        def waves(self, waves, texts=None, **_):
            raise ZeroDivisionError

    answer = ask("POST", "/v1/predict", predictor=Broken())
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


def test_the_policy_lets_nothing_in_from_elsewhere():
    policy = dict(part.split(" ", 1) for part in HEADERS["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    for name in ("base-uri", "form-action", "frame-ancestors"):
        assert policy[name] == "'none'"
    allowed = {word for value in policy.values() for word in value.split()}
    assert allowed == {"'none'", "'self'", "data:", "blob:"}


OWN = ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "192.168.7.9", "LOCALHOST",
       "ser.localhost:9", socket.gethostname()]  # fmt: skip
FOREIGN = ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example",
           "evil.example@127.0.0.1.example", "127.0.0.1.nip.io", "notlocalhost", "localhost:x", "[",
           "", "0x7f.1.evil.example"]  # fmt: skip


@pytest.mark.parametrize("host", OWN)
def test_own_hosts(host):
    assert ask("GET", "/health", {"Host": host}).status_code == 200


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_foreign_hosts_are_refused(host, path):
    answer = ask("GET", path, {"Host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "foreign_host"
    assert "--host-name" in answer.json()["error"]["message"]


def test_a_name_that_the_server_was_started_with():
    named = Settings(hosts=("Ser.example",))
    assert ask("GET", "/health", {"Host": "ser.example"}, named).status_code == 200
    assert ask("GET", "/health", {"Host": "xser.example"}, named).status_code == 421
    behind = {"Host": "127.0.0.1:8000", "Origin": "https://ser.example"}  # a proxy that renames
    assert ask("POST", "/v1/predict", behind, named).status_code == 200
    assert ask("POST", "/v1/predict", behind).status_code == 403


SAME = [("localhost:8000", "http://localhost:8000"), ("localhost", "http://localhost"),
        ("127.0.0.1", "http://127.0.0.1:80"), ("[::1]:8000", "http://[::1]:8000"),
        ("10.0.0.1", "https://10.0.0.1")]  # fmt: skip
CROSS = [("localhost:8000", "http://localhost:3000"), ("localhost:8000", "http://127.0.0.1:8000"),
         ("localhost:8000", "https://evil.example"), ("localhost:8000", "null"),
         ("localhost:8000", ""), ("localhost:8000", "http://localhost:8000.evil.example"),
         ("localhost:8000", "file://"), ("localhost", "http://["),
         ("localhost:8000", "http://evil.example#localhost:8000")]  # fmt: skip


@pytest.mark.parametrize(("host", "origin"), SAME)
def test_own_pages_may_post(host, origin):
    headers = {"Host": host, "Origin": origin}
    assert ask("POST", "/v1/predict", headers).status_code == 200


@pytest.mark.parametrize(("host", "origin"), CROSS)
def test_pages_of_other_sites_may_not(host, origin):
    headers = {"Host": host, "Origin": origin}
    for path in ("/v1/predict", "/v1/analyze"):
        answer = ask("POST", path, headers)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "foreign_origin"


def test_a_foreign_page_costs_nothing():
    predictor = MadePredictor()
    ask("POST", "/v1/predict", {"Origin": "https://evil.example"}, predictor=predictor)
    ask("POST", "/v1/predict", {"Host": "evil.example"}, predictor=predictor)
    assert predictor.batches == []


def test_over_a_socket():
    with serving(create_app(MadePredictor())) as address:
        assert httpx.get(f"{address}/", timeout=60).status_code == 200
        rebound = httpx.get(f"{address}/", headers={"Host": "evil.example:80"}, timeout=60)
        assert rebound.status_code == 421
        assert "<html" not in rebound.text
        two = b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        none = b"GET /health HTTP/1.1\r\n\r\n"
        for sent in (two, none):
            with socket.create_connection(("127.0.0.1", int(address.rsplit(":", 1)[1]))) as client:
                client.sendall(sent)
                assert b" 400 " in client.recv(9999)
