"""The viewer's server: what it shows, and whom it refuses."""

import asyncio
import http.client
import json
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import pytest
from tiny import some_events, tiny_detector

from spiking_centernet.data import open, write_dat
from spiking_centernet.errors import ConfigError
from spiking_centernet.inference.clip import Clip

pytest.importorskip("starlette", reason="the extra [view] is not installed")
pytest.importorskip("uvicorn", reason="the extra [view] is not installed")
from spiking_centernet.inference import Replay, stream
from spiking_centernet.inference.view_live import LiveFeed
from spiking_centernet.inference.view_server import ViewServer

LAST = "document.documentElement.dataset.frame"


@contextmanager
def serving(shown):
    server = ViewServer(shown)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("served") / "noise_td.dat"
    write_dat(path, some_events(20_000, 420_000), (56, 72))
    return Clip({"tiny": tiny_detector()}, open(path))


@pytest.fixture(scope="module")
def address(clip):
    with serving(clip) as address:
        yield address


def ask(address, path, method="GET", **headers):
    """Return status, headers and text of an answer; ``Host`` is as in the address unless given."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def test_the_page_is_served_with_a_policy(address):
    status, headers, text = ask(address, urlsplit(address).path)
    assert status == 200
    headers = {name.lower(): value for name, value in headers.items()}
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert "noise_td.dat" in text


def test_frames_and_spikes_are_those_of_the_clip(address, clip):
    token = urlsplit(address).path
    status, _, text = ask(address, f"{token}frames/4")
    assert status == 200
    frame, expected = json.loads(text), clip.frame(4)
    for values in (frame, expected.values):
        for model in values["models"]:
            model.pop("latency_ms")
    assert frame == json.loads(json.dumps(expected.values))
    status, _, text = ask(address, f"{token}frames/4/spikes/0/1")
    assert (status, text) == (200, list(expected.spikes[0].values())[1])


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/frames/0", "/frames/0", "//", "/%2e%2e/", "/favicon.ico"])
def test_without_the_token_nothing_is_answered(address, path):
    status, _, text = ask(address, path)
    assert status == 403
    assert "noise" not in text


@pytest.mark.parametrize(
    "path",
    ["../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "frames/../../etc/passwd", "frames/..%2f..%2fetc%2fpasswd",
     "static/view.css", "frames/-1", "frames/999", "frames/x", "frames/0/spikes/9/0", "frames/0/spikes/0/99", "live"],
)  # fmt: skip
def test_only_what_the_page_needs_is_there(address, path):
    status, _, text = ask(address, urlsplit(address).path + path)
    assert status == 404
    assert "root:" not in text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.nip.io:{port}", ""]
)
def test_another_host_name_is_refused(address, host):
    port = urlsplit(address).port
    status, _, text = ask(address, urlsplit(address).path, Host=host.format(port=port))
    assert status in (400, 421)
    assert "noise" not in text


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_the_loopback_interface_may_be_named(address, name):
    assert ask(address, urlsplit(address).path, Host=f"{name}:{urlsplit(address).port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_site_is_refused(address, headers):
    assert ask(address, f"{urlsplit(address).path}frames/0", **headers)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_allowed(address, method):
    assert ask(address, urlsplit(address).path, method)[0] == 405


def test_it_listens_on_the_loopback_interface_alone(address):
    assert urlsplit(address).hostname == "127.0.0.1"
    assert len(urlsplit(address).path.strip("/")) >= 32


def test_a_taken_port_is_told(address, clip):
    with pytest.raises(ConfigError, match="another --port"):
        ViewServer(clip, port=urlsplit(address).port)


def test_the_served_page_goes_to_the_first_box(browser, clip):
    best = [max((row[4] for row in clip.frame(k).values["models"][0]["boxes"]), default=0) for k in range(len(clip))]
    frame = max(k for k in range(1, len(best)) if best[k] > max(best[:k]))
    later = Clip({"tiny": tiny_detector()}, clip.recording, min_score=(best[frame] + max(best[:frame])) / 2)
    with serving(later) as address, browser.page(address) as tab:
        tab.wait(f"{LAST} === '{frame}'")
        tab.press("Home")
        tab.wait(f"{LAST} === '0'")


def test_the_served_page_shows_frames_and_any_layers_spikes(browser, address, clip):
    with browser.page(address) as tab:
        tab.wait(LAST)
        tab.press("End")
        tab.wait(f"{LAST} === '8'")
        tab.choose("#threshold", 0.2)
        expected = [row for row in clip.frame(8).values["models"][0]["boxes"] if row[4] >= 0.2]
        assert expected
        tab.wait(f"document.querySelectorAll('.panel tbody tr').length === {len(expected)}")
        for layer in (0, len(clip.frame(8).spikes[0]) - 1):
            tab.choose("#layer", layer)
            tab.wait("document.querySelector('#spikes').dataset.spikes > 0")
        assert tab.complaints() == []
        assert all(request.startswith((address, "data:")) for request in tab.requests())


def test_another_page_cannot_read_it(browser, address, tmp_path):
    (tmp_path / "evil.html").write_text("<!doctype html><p>evil")
    with browser.page(f"file://{tmp_path}/evil.html") as tab:
        read = tab.get(f"fetch({json.dumps(address)}).then((a) => a.text(), () => 'refused')")
        assert read == "refused"


class Breaking:
    """A camera that is unplugged after 110 ms."""

    size_hw = (56, 72)

    def __iter__(self):
        yield some_events(2_000, 110_000)
        raise OSError("the camera stopped")


@pytest.mark.parametrize("mode", ["windowed", "stateful"])
def test_a_live_page_shows_what_the_stream_finds(browser, clip, mode):
    detector = tiny_detector()
    recording = clip.recording
    feed = LiveFeed(
        "tiny", detector, Replay(recording, speed=1000), title="live", mode=mode, min_score=0.2, policy="wait"
    )
    (*_, last) = stream(detector, recording, mode=mode, min_score=0.2)
    with serving(feed) as address, browser.page(address) as tab:
        tab.wait("document.querySelector('#notes').textContent.includes('The source has ended')")
        tab.wait(f"Number(document.querySelector('#scrub').max) === {last.t_us}")
        tab.press("End")
        tab.wait(f"document.querySelectorAll('.panel tbody tr').length === {len(last)}")
        scores = tab.get(
            "[...document.querySelectorAll('.panel tbody tr')].map((row) => Number(row.cells[1].textContent))"
        )
        assert len(scores) == len(last) > 0
        assert scores == pytest.approx(last.scores.tolist(), abs=6e-4)
        tab.choose("#mode", "polarity")
        assert tab.pixels(".picture")[2] >= 4
        assert tab.get("[...document.querySelectorAll('#view-label, .not-live')].every((it) => !it.checkVisibility())")
        tab.wait("document.querySelector('#spikes-note').textContent.includes('over the steps')")
        assert tab.complaints() == []


@pytest.mark.slow
def test_a_server_that_ends_while_a_page_waits_says_nothing(clip, capsys):
    class Slow:
        def describe(self):
            return clip.describe()

        async def subscribe(self):
            yield "message", "{}"
            await asyncio.sleep(60)

    with serving(Slow()) as address:
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        connection.request("GET", f"{parts.path}live")
        answer = connection.getresponse()
        assert answer.readline() == b"event: message\n"
    connection.close()
    assert capsys.readouterr().err == ""


def test_a_live_page_says_why_the_stream_ended(browser):
    feed = LiveFeed("tiny", tiny_detector(), Breaking(), title="live", policy="wait")
    with serving(feed) as address, browser.page(address) as tab:
        tab.wait("document.querySelector('#notes').textContent.includes('the camera stopped')")
        tab.wait("document.querySelector('#clock').textContent.startsWith('0.100 s')")
