"""The verb that packs."""

from typing import Annotated

import typer

from simplenet.archive.profile import DEFAULT_PROFILE
from simplenet.cli.options import InputShape, ModelFile, Normalize, Output, Profile, Scale, parse_normalize, parse_shape
from simplenet.paths import MODEL_STORE
from simplenet.settings import DEFAULT_MODEL_NAME


def archive(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint saved for inference: a path or an s3:// address.")],
    model_name: Annotated[str, typer.Option(help="The name in the URL.")] = DEFAULT_MODEL_NAME,
    version: Annotated[str, typer.Option(help="The model's version.")] = "1.0",
    export_path: Annotated[str, typer.Option(help="The folder for the .mar, or s3://bucket/prefix.")] = str(
        MODEL_STORE
    ),
    profile: Profile = DEFAULT_PROFILE,
    model_file: ModelFile = None,
    model_class: Annotated[str | None, typer.Option(help="The class in --model-file.")] = None,
    input_shape: InputShape = None,
    normalize: Normalize = None,
    scale: Scale = None,
    output: Output = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing archive.")] = False,
) -> None:
    """Pack a checkpoint into a self-contained .mar; both are verified."""
    from simplenet.archive import create_archive
    from simplenet.storage import local_copy, local_folder

    shape = None if input_shape is None else parse_shape(input_shape)
    steps = {**(parse_normalize(normalize) if normalize else {}), **({} if scale is None else {"scale": scale})}
    with local_copy(checkpoint) as file, local_folder(export_path, replace=force) as folder:
        packed = create_archive(
            file, model_name=model_name, version=version, export_path=folder, profile=profile,
            model_file=model_file, model_class=model_class, force=force,
            input_shape=shape, preprocessing=steps or None, output=output, say=typer.echo,
        )  # fmt: skip
        size = packed.stat().st_size
    typer.echo(f"wrote {export_path.rstrip('/')}/{packed.name} ({size:,} bytes): {model_name} {version}")
