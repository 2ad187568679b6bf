"""Subcommand `ser experiment NAME`: plans a protocol's runs, makes them and prints the table."""

from __future__ import annotations

from typing import Annotated

import tyro

from multimodal_ser.cli.app import app, command_line, say
from multimodal_ser.cli.protocols import Ablation, Combined, InDomain
from multimodal_ser.cli.transfer import Adaptation, Fewshot, Finetune

Protocol = (
    Annotated[InDomain, tyro.conf.subcommand("in-domain")]
    | Annotated[Ablation, tyro.conf.subcommand("ablation")]
    | Annotated[Adaptation, tyro.conf.subcommand("adaptation")]
    | Annotated[Combined, tyro.conf.subcommand("combined")]
    | Annotated[Finetune, tyro.conf.subcommand("finetune")]
    | Annotated[Fewshot, tyro.conf.subcommand("fewshot")]
)


@app.command
def experiment(name: Annotated[Protocol, tyro.conf.arg(name="")]) -> None:
    """Makes an experiment's runs and prints its table.

    Complete runs are kept: the same command goes on where it was.

    Args:
        name: which protocol.
    """
    from multimodal_ser.experiments import make
    from multimodal_ser.report import summarise, text_table

    for out, made in name.planned():
        if name.dry_run:
            for run in made.names:
                say(str(out / run))
            continue
        make(
            made,
            out,
            jobs=name.jobs,
            engine=name.engine,
            device=name.device,
            command=command_line(),
        )
        say(f"{out}\n\n{text_table(summarise(out))}")
