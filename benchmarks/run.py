"""All benchmarks, one after another, each in a process of its own: `make bench`."""

from __future__ import annotations

import argparse
import subprocess
import sys

BENCHMARKS = {
    "steering_kernels": "step time and peak memory of each InfoSteer form against plain fine-tuning",
    "safr_losses": "time, peak memory and value of SAFR's losses against the authors' formulas",
    "safr_step": "a training step of the SAFR paper's classifier, with and without its terms",
    "loop": "the whole loop under Ray Train and ZeRO against a bare PyTorch loop, Hugging Face Trainer and TRL",
    "strengths": "many inference-time strengths in one batch against a pass, and a run, for each",
    "sweep_overhead": "what a sweep costs beside its trials, against plain Ray Tune",
    "packing": "effective tokens per second with packing against padding",
    "simulation_turns": "agent turns per second through the client against the patterns of the field",
    "simulation_serve": "agent turns per second behind Ray Serve, one handle call per batch against one per agent",
    "sse": "lateness and cost of the events of simulations for two hundred readers",
    "startup": "submission to first optimiser step against the deepspeed launcher",
    "serving": "tokens per second and latency of the running batch against static batches and other engines",
    "row_adapters": "rows of one batch under LoRA adapters of their own, against a merged model for each",
    "serving_llama": "the running batch beside llama.cpp's server, where there is one",
    "gateway": "what a request costs above an empty Serve application of the same shape",
    "simulation_population": "a town of scripted inhabitants against Mesa; durability and memory",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(f"  {name:<10}{what}" for name, what in BENCHMARKS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="run this one (repeatable)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=5, help="at least 5 for figures that are kept")
    args = parser.parse_args()
    failed = []
    for name in args.only or BENCHMARKS:
        print(f"== {name}: {BENCHMARKS[name]}", flush=True)
        command = [
            sys.executable,
            "-m",
            f"benchmarks.{name}",
            "--device",
            args.device,
            "--repetitions",
            str(args.repetitions),
        ]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
