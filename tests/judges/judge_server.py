"""A stand-in for an OpenAI-compatible judge, in a process of its own: `python -m tests.judges.judge_server PORT_FILE`.

It prefers the shorter of the two answers, leans a little to the one shown first, and counts what it is asked.
`POST /control` sets how it behaves; `GET /stats` says what happened.
"""

from __future__ import annotations

import json
import math
import re
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

LEAN = 0.5  # nats in favour of the answer shown first
USAGE_CHARACTERS = 4  # a token of the server's usage


class State:
    """What the server was told and what it saw; `lock` guards all of it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.reset({})

    def reset(self, told: dict[str, Any]) -> None:
        self.delay: float = told.get("delay", 0.0)
        # Text in a prompt -> faults of its first, second, ... request; the last one stays if it ends in "...".
        self.faults: dict[str, list[str]] = {
            key: list(value) for key, value in told.get("faults", {}).items()
        }
        self.noise: float = told.get("noise", 0.0)  # nats, alternating in sign with a prompt's requests
        self.content: str | None = told.get("content")  # said instead of a preference
        self.requests = 0
        self.answered = 0
        self.tokens = [0, 0]
        self.by_prompt: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.under_way = 0
        self.most_under_way = 0

    def fault(self, prompt: str) -> str | None:
        for text, queue in self.faults.items():
            if text in prompt and queue:
                return queue[0][:-3] if queue[0].endswith("...") else queue.pop(0)
        return None

    def stats(self) -> dict[str, Any]:
        names = ("requests", "answered", "tokens", "bodies", "most_under_way")
        return {name: getattr(self, name) for name in names} | {
            "by_prompt": dict(self.by_prompt),
            "keys": sorted(self.keys),
        }


STATE = State()


def preference(prompt: str, turn: int) -> float:
    """Probability that the answer shown first is better: the shorter one is, by its characters."""
    shown = re.findall(r'"(?:output|answer)": """(.*?)"""', prompt, re.DOTALL)
    first, second = shown[-2:] if shown else ("", "")
    score = (len(second) - len(first)) / 20 + LEAN + STATE.noise * (-1) ** turn
    return 1 / (1 + math.exp(-score))


def choice_for(body: dict[str, Any], prompt: str, fault: str | None, turn: int) -> dict[str, Any]:
    share = preference(prompt, turn)
    names = ("m", "M")
    best = names[share < 0.5]
    message: dict[str, Any] = {"role": "assistant", "content": best}
    if body.get("tools"):
        ordered = [best, names[1 - names.index(best)]]
        arguments = json.dumps(
            {"ordered_models": [{"model": m, "rank": i + 1} for i, m in enumerate(ordered)]}
        )
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]}
    elif not body.get("logprobs"):
        ranks = (1, 2) if share > 0.5 else (2, 1)
        message["content"] = STATE.content or str(
            [{"model": f"model_{i + 1}", "rank": rank} for i, rank in enumerate(ranks)]
        )
    choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "message": message, "logprobs": None}
    if body.get("logprobs"):
        shares = {"m": share, "M": 1 - share}
        if fault == "wrong tokens":
            shares = {"Both": 0.9, "The": 0.1}
            message["content"] = "Both"
        top = [
            {"token": token, "logprob": math.log(value), "bytes": list(token.encode())}
            for token, value in sorted(shares.items(), key=lambda item: -item[1])
        ]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    if fault == "no logprobs":
        choice["logprobs"] = None
    if fault == "empty":
        message["content"] = ""
    return choice


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def send_json(self, status: int, value: Any, **headers: str) -> None:
        self.send(status, json.dumps(value).encode(), **headers)

    def do_GET(self) -> None:
        with STATE.lock:
            self.send_json(200, STATE.stats())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control":
            with STATE.lock:
                STATE.reset(body)
            self.send_json(200, {})
            return
        given = body.get("prompt") or ["\n".join(message["content"] for message in body["messages"])]
        texts = given if isinstance(given, list) else [given]  # alpaca_eval sends plain prompts ten at a time
        text = texts[0]
        with STATE.lock:
            STATE.requests += 1
            STATE.by_prompt.update(texts)
            turn = STATE.by_prompt[text]
            STATE.bodies.append(
                {key: value for key, value in body.items() if key not in ("messages", "prompt")}
            )
            STATE.keys.add(self.headers.get("Authorization", ""))
            STATE.under_way += 1
            STATE.most_under_way = max(STATE.most_under_way, STATE.under_way)
            fault = STATE.fault(text)
        try:
            time.sleep(STATE.delay)
            self.answer(body, text, fault, turn)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has gone: a timeout, or killed
        finally:
            with STATE.lock:
                STATE.under_way -= 1

    def answer(self, body: dict[str, Any], text: str, fault: str | None, turn: int) -> None:
        if fault is not None and fault.startswith("429"):
            wait = fault.partition(" ")[2]
            self.send_json(
                429, {"error": {"message": "slow down"}}, **({"Retry_After": wait} if wait else {})
            )
        elif fault in ("500", "503"):
            self.send_json(int(fault), {"error": {"message": "try later"}})
        elif fault in ("400", "401", "404"):
            # Nasty on purpose: real servers have repeated the key that they refuse.
            said = f"not like this: {self.headers.get('Authorization')}"
            self.send_json(int(fault), {"error": {"message": said, "code": None}})
        elif fault == "quota":
            self.send_json(429, {"error": {"message": "no money left", "code": "insufficient_quota"}})
        elif fault == "hang":
            time.sleep(4)
        elif fault == "drop":
            self.connection.close()
            self.close_connection = True
        elif fault == "malformed":
            self.send(200, b'{"choices": [{"mess')
        elif fault == "html":
            self.send(200, b"<html>a proxy's page</html>", Content_Type="text/html")
        else:
            counts = [len(text) // USAGE_CHARACTERS, 1]
            choices = [] if fault == "no choices" else [choice_for(body, text, fault, turn)]
            if body.get("prompt"):
                number = len(body["prompt"]) if isinstance(body["prompt"], list) else 1
                choices = [
                    {"index": i, "finish_reason": "stop", "text": " Output (a)"} for i in range(number)
                ]
            if fault == "echo":
                choices[0]["message"]["reasoning"] = f"I was called with {self.headers.get('Authorization')}"
            with STATE.lock:
                STATE.answered += 1
                STATE.tokens = [before + now for before, now in zip(STATE.tokens, counts, strict=True)]
            self.send_json(
                200,
                {
                    "id": "1",
                    "object": "chat.completion",
                    "created": 1,
                    "model": body["model"],
                    "choices": choices,
                    "usage": {
                        "prompt_tokens": counts[0],
                        "completion_tokens": counts[1],
                        "total_tokens": sum(counts),
                    },
                },
            )


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: Any) -> None:
        pass  # connections that the tests break


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    port_file = Path(sys.argv[1])
    temporary = port_file.with_suffix(".new")
    temporary.write_text(str(server.server_port))
    temporary.replace(port_file)
    server.serve_forever()
