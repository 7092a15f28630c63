# Thin names over the project's own commands.
PYTHON ?= .venv/bin/python

test:
	./test

runtime:            # rebuild libck_rt after a change in runtime_c
	$(PYTHON) runtime_c/build.py

kernels-sanitized:  # the C tests under address and undefined-behaviour sanitizers
	$(PYTHON) runtime_c/build.py --tests --sanitize

kill-trials:        # kill -9 a trainer at 100 random moments; the test has 12 of them
	CK_KILL_TRIALS=100 $(PYTHON) -m pytest tests/train/test_runs.py -k killed

backends:           # C and LLVM on 512 tokens of both demo models, bit for bit (a minute)
	CK_BACKENDS=full $(PYTHON) -m pytest tests/runtime/test_backends.py

mutations:          # deliberate bugs, one at a time, and who finds each (about an hour)
	$(PYTHON) tests/mutations/run.py --json build/mutations.json --table build/mutations.md

peer:               # build llama.cpp, the peer of the figures (about ten minutes, cached)
	$(PYTHON) benchmarks/peers/llama_cpp.py

bench: peer         # figures of docs/benchmarks.md
	$(PYTHON) benchmarks/inference.py
	$(PYTHON) benchmarks/compile_time.py

parts: peer         # files that llama.cpp's gguf-split made of both demo models, against the whole
	$(PYTHON) benchmarks/peers/check_parts.py

tokenizers: peer    # token ids against llama.cpp's: demo models, its vocabulary files, every pre-tokenizer
	$(PYTHON) benchmarks/peers/check_tokenizers.py

token-records: peer # the same, and record llama.cpp's ids of the demo models for the tests
	$(PYTHON) benchmarks/peers/check_tokenizers.py --record

quantised: peer     # greedy ids and divergence of quantised models of every family against llama.cpp's
	$(PYTHON) benchmarks/peers/check_quantised.py

quantize-parity: peer # ck quantize and ck imatrix against llama.cpp's tools on SmolLM2 (some minutes)
	$(PYTHON) benchmarks/peers/check_quantize.py

types: peer         # every storage type, on files that llama-quantize writes (some minutes)
	$(PYTHON) benchmarks/peers/check_types.py

bench-types: peer   # rates of every storage type beside llama.cpp's (half an hour)
	$(PYTHON) benchmarks/inference.py --types all

bench-backends:     # LLVM against C: speed, time to compile and to load
	$(PYTHON) benchmarks/backends.py --check

bench-training:     # training against PyTorch: eager, compiled, f32 and bf16 (about an hour)
	$(PYTHON) benchmarks/training.py --check
	$(PYTHON) benchmarks/training.py --peers compile-f32,eager-bf16,compile-bf16 --pairs 1 --out build/benchmarks/others

bench-shapes:       # published shapes with random weights: compile, load, generate (some minutes)
	$(PYTHON) benchmarks/shapes.py --markdown

graphs: CK_GRAPHS := $(or $(CK_GRAPHS),5000)
graphs: CK_GRAPHS_SEED := $(or $(CK_GRAPHS_SEED),$(shell date +%s))
graphs:             # random programs through interpreters, PyTorch, C and LLVM; a failure names its seed
	CK_GRAPHS=$(CK_GRAPHS) CK_GRAPHS_SEED=$(CK_GRAPHS_SEED) OMP_NUM_THREADS=1 \
	$(PYTHON) -m pytest -n 2 -v tests/graphs/test_random_graphs.py

parity:             # the canary against PyTorch on a model of 4 layers, both families (some minutes)
	CK_CANARY=large $(PYTHON) -m pytest tests/train/test_parity.py -k canary

samplers: peer      # record anew what llama.cpp's samplers make of random logits (seconds)
	$(PYTHON) benchmarks/peers/record_samplers.py

fuzz: CK_FUZZ_SECONDS := $(or $(CK_FUZZ_SECONDS),300)
fuzz:               # libFuzzer on the GGUF reader; what it finds lands in build/fuzz (five minutes)
	mkdir -p build/fuzz
	$(PYTHON) -m pip install --quiet 'atheris>=3.0'
	$(PYTHON) -m tests.fuzz.gguf_reader -max_total_time=$(CK_FUZZ_SECONDS) -artifact_prefix=build/fuzz/ \
	build/fuzz tests/fuzz/corpus

hostile:            # 6 x 5000 random edits of model files, new ones each time (some minutes)
	CK_HOSTILE=$(or $(CK_HOSTILE),5000) OMP_NUM_THREADS=1 \
	$(PYTHON) -m pytest tests/frontend/test_hostile_files.py

templates:          # published chat templates: 60 conversations each against transformers (half a minute)
	$(PYTHON) -m tests.frontend.published_templates smollm2-135m \
	$$($(PYTHON) benchmarks/peers/llama_cpp.py --source)/models/templates

regression:         # every family by every check, in full (about ten minutes)
	$(PYTHON) -m ck.cli.main regression inference --full
	$(PYTHON) -m ck.cli.main regression training --full

finetune:           # SmolLM2 on 200 documents, all weights and adapters, beside PyTorch and PEFT (some minutes)
	$(PYTHON) benchmarks/finetune.py

eval-parity: peer   # ck eval against llama-perplexity in every storage type (half an hour)
	$(PYTHON) benchmarks/peers/check_eval.py

eval-tasks:         # tasks of lm-evaluation-harness, its model of transformers beside ck's (installs 600 MB)
	$(PYTHON) -m pip install --quiet --editable '.[tasks]'
	HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 $(PYTHON) -m pytest tests/evaluate/check_harness.py

docs:               # generated pages
	$(PYTHON) scripts/write_cli_docs.py
	$(PYTHON) scripts/ops_doc.py --write

.PHONY: types bench-types quantize-parity parts fuzz hostile samplers tokenizers token-records quantised backends bench-backends bench-shapes test runtime kernels-sanitized kill-trials mutations peer bench bench-training graphs parity templates regression eval-parity eval-tasks docs
