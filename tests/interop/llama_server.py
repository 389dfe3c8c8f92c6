"""Serves a GGUF file by llama.cpp's own HTTP listener on loopback, and prints the address.

python llama_server.py MODEL NAME KEY; it ends with its standard input, so that it never outlives the tests.
"""

import sys

import xllamacpp

TEMPLATE = "{% for m in messages %}{{ m.content }}{{ '\n\n' }}{% endfor %}"  # the packaged model has none


def main(model: str, name: str, key: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {name}
    params.api_keys = [key]
    params.chat_template = TEMPLATE
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup = params.ui = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    print(f"serving at {server.listening_address}", flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
