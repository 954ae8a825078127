"""A file that is far too large: it is refused, a person is told in words, and the app goes on answering."""

from __future__ import annotations

import os
import urllib.error
import urllib.request

import pytest

from tests import serving

TOO_LARGE = 12 * 2**20  # bytes; the app takes 10 MB


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large.txt"
    path.touch()
    os.truncate(path, TOO_LARGE)  # takes no room on the disk
    return path


def test_the_server_refuses_it_while_it_comes_in_and_goes_on_answering(address, large):
    body = (b'--part\r\nContent-Disposition: form-data; name="files"; filename="large.txt"\r\nContent-Type: text/plain\r\n\r\n' + large.read_bytes()
            + b"\r\n--part--\r\n")
    request = urllib.request.Request(f"{address}/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=part"})
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=60)
    assert raised.value.code == 413 and b"maximum allowed size" in raised.value.read()
    assert serving.answers(address)


def test_a_person_is_told_and_nothing_is_sent(page, address, large, asked):
    page.goto(f"{address}/?panel=memorization")
    page.locator("#memorization-survey-rows-items").wait_for()
    upload = page.locator("input[type=file][accept*='.jsonl']").first
    upload.set_input_files(large)
    page.get_by_text("exceed the maximum allowed size of 10").first.wait_for()
    assert "large.txt" in page.locator(".toast-body").first.inner_text()
    assert not [url for url in asked if "/upload" in url] and serving.answers(address)
