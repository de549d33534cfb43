"""Where a teacher may be: hosts, names that lead inside, keys by service, proxies, certificates."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest

from luthier.errors import StageError, UserError
from luthier.models.remote.address import check, secret
from luthier.models.remote.client import Question, Settings, Teacher
from tests.models.test_remote import KEY, echo
from tests.scripted import endpoint


def public(*_: Any) -> list[str]:
    return ["104.18.6.192"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://api.openai.com/v1", "no address"),
        ("api.openai.com/v1", "no address"),
        ("https://", "no address"),
        ("https://user:pass@api.openai.com/v1", "user or a password"),
        ("https://api.openai.com@evil.example/v1", "user or a password"),
        ("https://evil.example\\@api.openai.com/v1", "user or a password"),
        ("https://api.openai.com/v1?key=1", "ends in"),
        ("https://api.openai.com:99999/v1", "no address"),
        ("https://api.openai.com:x/v1", "no address"),
        ("https://[::1/v1", "no address"),
        ("http://api.openai.com/v1", "unencrypted"),
        ("https://evil.example/v1", "does not allow"),
        ("https://api.openai.com.evil.example/v1", "does not allow"),
        ("http://10.0.0.5/v1", "does not allow"),
        ("http://169.254.169.254/latest", "does not allow"),
        ("http://2130706433/v1", "does not allow"),
        ("http://127.1/v1", "does not allow"),
        ("http://0x7f.1/v1", "does not allow"),
        ("http://[::ffff:127.0.0.1]/v1", "does not allow"),
        ("http://0.0.0.0/v1", "does not allow"),
    ],
)
def test_addresses_that_are_not_asked(url, words):
    with pytest.raises(UserError, match=words) as caught:
        check(url, public)
    assert "pass@" not in str(caught.value)
    assert caught.value.place == "teacher.url"


@pytest.mark.parametrize(
    "private",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.9",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:7f00:1::",
    ],
)
def test_a_public_name_that_leads_inside_is_refused(private, monkeypatch):
    with pytest.raises(UserError, match="private network"):
        check("https://api.openai.com/v1", lambda *_: ["104.18.6.192", private])
    monkeypatch.setenv("LUTHIER_TEACHER_HOSTS", "teacher.corp, other:8000")
    assert check("http://teacher.corp/v1", lambda *_: [private]).host == "teacher.corp"


def test_localhost_must_be_this_machine():
    with pytest.raises(UserError, match="not this machine"):
        check("http://localhost:11434/v1", public)
    found = check("http://localhost:11434/v1/", lambda *_: ["::1", "127.0.0.1"])
    assert found.connect == ("http://[::1]:11434/v1", "http://127.0.0.1:11434/v1")


def test_the_owner_allows_hosts_by_name_and_port(monkeypatch):
    monkeypatch.setenv("LUTHIER_TEACHER_HOSTS", "gpu-box:8000")
    assert check("http://gpu-box:8000/v1", lambda *_: ["192.168.0.7"]).connect == ("http://192.168.0.7:8000/v1",)
    with pytest.raises(UserError, match="does not allow"):
        check("http://gpu-box:22/v1", lambda *_: ["192.168.0.7"])


def test_the_address_that_was_checked_is_the_one_that_is_asked(tmp_path, monkeypatch):
    answers = [["127.0.0.1"], ["169.254.169.254"]]
    monkeypatch.setenv("LUTHIER_TEACHER_HOSTS", "teacher.corp")
    with endpoint(echo) as server:
        port = server.url.split(":")[2].split("/")[0]
        settings = Settings(f"http://teacher.corp:{port}/v1", "m", None)
        teacher = Teacher(settings, tmp_path, resolve=lambda *_: answers.pop(0))
        for prompt in ("one", "two"):
            assert teacher.ask([Question(({"role": "user", "content": prompt},))], lambda _: None)[0].text
    assert len(answers) == 1
    assert server.headers[0]["Host"] == f"teacher.corp:{port}"


def test_the_next_address_is_tried_where_one_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_TEACHER_HOSTS", "teacher.corp")
    with endpoint(echo) as server:
        port = server.url.split(":")[2].split("/")[0]

        async def sleep(_seconds: float) -> None:
            return

        settings = Settings(f"http://teacher.corp:{port}/v1", "m", None, concurrency=4)
        teacher = Teacher(settings, tmp_path, sleep, resolve=lambda *_: ["::1", "127.0.0.1"])
        questions = [Question(({"role": "user", "content": f"q{n}"},)) for n in range(8)]
        assert all(reply.text for reply in teacher.ask(questions, lambda _: None))


def test_a_public_service_is_given_its_own_key_only(monkeypatch):
    for name in ("OPENAI_API_KEY", "MISTRAL_API_KEY"):
        monkeypatch.setenv(name, f"sk-{name}")
    openai = check("https://api.openai.com/v1", public)
    assert secret("auto", openai) == secret("OPENAI_API_KEY", openai) == "sk-OPENAI_API_KEY"
    with pytest.raises(UserError, match="and no other"):
        secret("MISTRAL_API_KEY", openai)
    local = check("http://localhost:1/v1", lambda *_: ["127.0.0.1"])
    assert secret("auto", local) == secret(None, openai) == ""
    assert secret("MISTRAL_API_KEY", local) == "sk-MISTRAL_API_KEY"
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-1\r\nX-Evil: 1")
    with pytest.raises(UserError, match="no key") as caught:
        secret("MISTRAL_API_KEY", local)
    assert "sk-1" not in str(caught.value)
    monkeypatch.delenv("MISTRAL_API_KEY")
    with pytest.raises(UserError, match="holds no key"):
        secret("MISTRAL_API_KEY", local)


def test_public_hosts_go_through_the_proxy_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def never(*_: Any) -> list[str]:
        raise AssertionError("behind a proxy no name is resolved here")

    with endpoint(echo) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.removesuffix("/v1").replace("//", "//user:passw0rd@"))
        teacher = Teacher(Settings("https://api.openai.com/v1", "m", tries=1), tmp_path, resolve=never)
        with pytest.raises(StageError) as caught:
            teacher.ask([Question(({"role": "user", "content": "q"},))], lambda _: None)
    assert proxy.asked == [{"path": "api.openai.com:443"}]
    assert "passw0rd" not in str(caught.value) + repr(teacher._address)
    monkeypatch.setenv("NO_PROXY", "api.openai.com")
    assert check("https://api.openai.com/v1", public).proxy is None


def test_a_certificate_is_checked_for_the_name_and_not_for_the_number(tmp_path, monkeypatch):
    """The endpoint speaks TLS with a certificate for teacher.corp alone; the owner's authority is in SSL_CERT_FILE."""
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl here")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=teacher.corp"]
    command += ["-addext", "subjectAltName=DNS:teacher.corp", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("LUTHIER_TEACHER_HOSTS", "teacher.corp,other.corp")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with endpoint(echo, context) as server:
        port = server.url.split(":")[2].split("/")[0]

        def told(host: str, prompt: str = "q") -> str | None:
            settings = Settings(f"https://{host}:{port}/v1", "m", None, tries=1)
            teacher = Teacher(settings, tmp_path / "kept", resolve=lambda *_: ["127.0.0.1"])
            return teacher.ask([Question(({"role": "user", "content": prompt},))], lambda _: None)[0].text

        assert told("teacher.corp") == "about q"
        with pytest.raises(StageError, match="CERTIFICATE_VERIFY_FAILED"):
            told("other.corp")
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(StageError, match="CERTIFICATE_VERIFY_FAILED"):
            told("teacher.corp", "not yet known")
