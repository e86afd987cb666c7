"""A real Beam batch pipeline: reads the letters of --text; a digit among them fails it."""

from __future__ import annotations

import argparse

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult


class ReadLetters(beam.DoFn):
    def process(self, letter: str) -> None:
        if letter.isdigit():
            raise ValueError(f"{letter!r} is no letter")


def run(argv: list[str]) -> PipelineResult:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--text", required=True)
    known, beam_arguments = parser.parse_known_args(argv)
    pipeline = beam.Pipeline(options=PipelineOptions(beam_arguments))
    _ = pipeline | "Letters" >> beam.Create(list(known.text)) | "Read" >> beam.ParDo(ReadLetters())
    return pipeline.run()
