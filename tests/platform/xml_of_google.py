"""Google's XML interface, by which Delta and the lease write, in front of a server that knows it for reading alone.

As a script: python xml_of_google.py PORT URL. What a write is conditional on, and which generation it made, stands in
headers there (https://cloud.google.com/storage/docs/xml-api/reference-headers), and in parameters and the answer of
the JSON interface, which the server behind has for both. A process of its own: Delta keeps Python's threads waiting.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit
from urllib.request import Request, urlopen
from xml.etree import ElementTree


class XmlOfGoogle(BaseHTTPRequestHandler):
    """One request, which goes on to `behind`."""

    behind: ClassVar[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._pass_on(self.command, self.path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        bucket, name = self._object(self.path)
        wanted = self.headers.get("x-goog-if-generation-match")
        condition = {"ifGenerationMatch": wanted} if wanted else {}
        if source := self.headers.get("x-goog-copy-source"):
            there, copied = self._object(source)
            path = f"/storage/v1/b/{there}/o/{copied}/copyTo/b/{bucket}/o/{name}?{urlencode(condition)}"
        else:
            asked = {"uploadType": "media", "name": unquote(name), **condition}
            path = f"/upload/storage/v1/b/{bucket}/o?{urlencode(asked)}"
        self._pass_on("POST", path, content)

    def do_DELETE(self) -> None:
        bucket, name = self._object(self.path)
        self._pass_on("DELETE", f"/storage/v1/b/{bucket}/o/{name}")

    def log_message(self, *_: object) -> None:
        pass

    @staticmethod
    def _object(path: str) -> tuple[str, str]:
        """Bucket and object of a path, the latter as the JSON interface wants it."""
        bucket, _, name = unquote(urlsplit(path).path).strip("/").partition("/")
        return bucket, quote(name, safe="")

    @staticmethod
    def _after(name: str, listed: bytes) -> bytes:
        """A list without the objects up to a name, for which the server behind does not look."""
        root = ElementTree.fromstring(listed)
        for found in root.findall("Contents"):
            if found.findtext("Key", "") <= name:
                root.remove(found)
        return ElementTree.tostring(root)

    def _pass_on(self, method: str, path: str, content: bytes | None = None) -> None:
        given = {"Range": self.headers["Range"]} if "Range" in self.headers else {}
        try:
            answer = urlopen(Request(self.behind + path, content, given, method=method))
        except HTTPError as error:
            answer = error
        with answer:
            body, headers = answer.read(), dict(answer.headers)
        if method == "POST" and answer.status == 200:
            made = json.loads(body)
            headers, body = {"ETag": f'"{made["etag"]}"', "x-goog-generation": made["generation"]}, b""
        if after := parse_qs(urlsplit(self.path).query).get("start-after"):
            body = self._after(after[0], body)
        size = headers.pop("Content-Length", "0") if method == "HEAD" else str(len(body))
        for name in ("Content-Length", "Transfer-Encoding", "Date"):
            headers.pop(name, None)
        self.send_response(answer.status)
        for name, value in {**headers, "Content-Length": size}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    XmlOfGoogle.behind = sys.argv[2]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), XmlOfGoogle).serve_forever()
