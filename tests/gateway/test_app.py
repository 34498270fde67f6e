from __future__ import annotations


def test_the_process_answers_with_headers_that_protect(client) -> None:
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"].startswith("req_")
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_an_address_that_is_not_there_is_a_problem(client, as_user) -> None:
    answer = as_user("ann").get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "/problems/not-found"
