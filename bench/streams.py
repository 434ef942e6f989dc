"""Follows the audit log a thousand times over HTTP while things happen, and says what the server's memory does."""

import asyncio
import json
import ssl
import time

# Entries before growth is measured: what a stream needs it has made by then.
WARM = 30


def measure(home, address, memory, count, seconds):
    """Opens `count` streams, each on a connection of its own; what one takes in KB, and by how much all grow in
    `seconds` in which an entry a second goes to each."""
    return asyncio.run(_measure(home, address, memory, count, seconds))


async def _measure(home, address, memory, count, seconds):
    context = ssl.create_default_context(cafile=home / "ca.pem")
    context.load_cert_chain(home / "admin" / "cert.pem", home / "admin" / "key.pem")
    host, port = address.rsplit(":", 1)

    async def connect():
        return await asyncio.open_connection(host, int(port), ssl=context, server_hostname="localhost")

    async def request(line, body=""):
        reader, writer = await connect()
        head = f"{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise SystemExit(f"{line}: {status.decode()}{(await reader.read(2000)).decode()}")
        while await reader.readline() != b"\r\n":
            pass
        return reader, writer

    entries = [0] * count

    async def follow(n, reader):
        while line := await reader.readline():
            entries[n] += line.startswith(b'{"entry"')

    before = memory()
    streams = []
    for _ in range(0, count, 50):
        streams += await asyncio.gather(*(request("GET /v1/audit?follow=true&count=1") for _ in range(50)))
    readers = [asyncio.create_task(follow(n, reader)) for n, (reader, _) in enumerate(streams)]

    async def act(n):
        _, writer = await request("POST /v1/principals", json.dumps({"principalId": f"followed-{n}", "type": "PRINCIPAL_TYPE_USER"}))
        writer.close()

    # What is made once, at the first entry, is no growth.
    for acts in range(WARM):
        await act(acts)
        await asyncio.sleep(1)
    opened, began = memory(), time.monotonic()
    acts = WARM
    while time.monotonic() - began < seconds:
        await act(acts)
        acts += 1
        await asyncio.sleep(1)
    await asyncio.sleep(1)
    after = memory()
    if min(entries) < acts:
        raise SystemExit(f"{acts} entries were written, and a stream has {min(entries)} of them")
    for _, writer in streams:
        writer.transport.abort()
    for task in readers:
        task.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return {"kb_each": (opened - before) * 1024 / count, "growth_kb_each": (after - opened) * 1024 / count, "entries": acts}
