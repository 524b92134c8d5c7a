"""Which weights a name means, and how to get them.

The grammar is `encoder[:weights]`, and weights are, in this order: a name that the encoder knows,
a path, or a hub id `owner/name[/file][@revision]`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bab.core.errors import BabError, did_you_mean
from bab.core.weights import WeightsError, first_line
from bab.hub.files import CHECKPOINTS, TENSORS, one_checkpoint

# Seconds for the first question to the hub; the user waits this long where a firewall drops it.
TIMEOUT = 10.0

_STANDARD = ("config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(/[\w./-]+)?(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class Located:
    """Weights on this machine: `path` is a folder or one file; `name` says where they came from.

    name: an absolute path, or `owner/name[/file]@commit`; typed after the colon, it means the same.
    """

    path: Path
    name: str


def locate(
    weights: str, *, encoder: str, hub: Mapping[str, str], known: Iterable[str], offline: bool
) -> Located:
    """Find weights on this machine, or fetch them.

    Args:
        weights: what stands after the colon.
        encoder: the encoder's name, for messages.
        hub: names that the encoder knows -> hub ids.
        known: all names that the encoder knows, for "did you mean".
        offline: never ask the hub.

    Raises:
        WeightsError: with a remedy, where the weights can't be had.
    """
    if weights in hub:
        return fetch(hub[weights], offline=offline)
    path = Path(weights)
    try:
        path = path.expanduser()
        if path.exists():
            return Located(path.resolve(), str(path.resolve()))
    except (OSError, RuntimeError, ValueError) as error:  # no such user, too long, a NUL
        raise WeightsError(f"'{encoder}:{weights}' can't be a path: {first_line(error)}") from error
    if weights.startswith(("/", "./", "../", "~")) or weights in (".", ".."):
        raise WeightsError(f"{path} does not exist: '{encoder}:{weights}' names a local path")
    if _HUB_ID.fullmatch(weights):
        return fetch(weights, offline=offline)
    raise WeightsError(
        f"'{encoder}' knows no weights '{weights}', and there is no such path: "
        f"{did_you_mean(weights, known)} (or owner/name on the hub, or a folder)"
    )


def fetch(spec: str, *, offline: bool = False) -> Located:
    """A hub model, `owner/name[/file][@revision]`, as files on this machine.

    The hub is asked once for the commit and the list of files; only what a model needs is fetched.
    Where it can't be reached, a copy that is already here is used: its commit is in `Located.name`.

    Raises:
        WeightsError: offline and not here, unreachable, unknown, gated, or a refused token.
    """
    from huggingface_hub import HfApi, constants

    name, _, revision = spec.partition("@")
    repo, inner = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:])
    if offline or constants.HF_HUB_OFFLINE:
        copy = _cached(repo, inner, revision or None)
        if copy is None:
            raise WeightsError(
                f"{repo} is not on this machine and --offline (or HF_HUB_OFFLINE) forbids "
                f"fetching it: run once without it, or `hf download {repo}`, or name a local folder"
            )
        return copy
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    with _explained(repo, revision):
        try:
            info = api.model_info(repo, revision=revision or None, timeout=TIMEOUT)
        except Exception as error:
            copy = _cached(repo, inner, revision or None) if _unreachable(error) else None
            if copy is None:
                raise
            return copy
        files = _needed([item.rfilename for item in info.siblings or []], repo, inner)
        # The first by the revision's name, which the cache then knows offline; the others by the
        # commit that it turned out to be.
        path = Path(api.hf_hub_download(repo, files[0], revision=revision or None))
        commit = path.parents[files[0].count("/")].name
        for file in files[1:]:
            path = Path(api.hf_hub_download(repo, file, revision=commit))
    return Located(path if _single(files) else path.parent, f"{name}@{commit}")


def _cached(repo: str, inner: str, revision: str | None) -> Located | None:
    """The copy that the hub's client keeps, or None."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        # Newer clients call a snapshot incomplete where, as here, only some files were wanted.
        snapshot = getattr(error, "snapshot_path", None)
        if snapshot is None:
            return None
        folder = Path(snapshot)
    except HFValidationError as error:
        raise WeightsError(_remedy(error, repo, revision or "")) from error
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    try:
        files = _needed(names, repo, inner)
    except WeightsError:
        return None
    path = folder / files[-1]
    name = f"{repo}/{inner}" if inner else repo
    return Located(path if _single(files) else path.parent, f"{name}@{folder.name}")


def _needed(names: list[str], repo: str, inner: str) -> list[str]:
    """The files to fetch, the weights last: a transformers folder, or one checkpoint.

    Raises:
        WeightsError: there are none, or several checkpoints and none was named.
    """
    if inner:
        if inner not in names:
            raise WeightsError(f"{repo} has no file {inner}: {did_you_mean(inner, names)}")
        return [inner]
    weights = next((name for name in TENSORS if name in names), None)
    if "config.json" in names and weights:
        stem = weights.split(".")[0]
        shards = [n for n in names if weights.endswith(".json") and n.startswith(f"{stem}-")]
        return [name for name in _STANDARD if name in names] + sorted(shards) + [weights]
    return [one_checkpoint([name for name in names if name.endswith(CHECKPOINTS)], repo)]


def _single(files: list[str]) -> bool:
    return len(files) == 1 and files[0].endswith(CHECKPOINTS)


def _unreachable(error: BaseException) -> bool:
    """Whether an error, or what caused it, means that no answer came from the hub."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    while not isinstance(error, HfHubHTTPError):  # that one is an answer
        network = type(error).__module__.split(".")[0] in {"httpx", "httpx2", "httpcore"}
        if isinstance(error, (ConnectionError, TimeoutError, OfflineModeIsEnabled)) or network:
            return True
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    return False


@contextmanager
def _explained(repo: str, revision: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line that says what to do."""
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except BabError:
        raise
    except (OSError, HFValidationError) as error:
        raise WeightsError(_remedy(error, repo, revision)) from error
    except Exception as error:
        if _unreachable(error):
            raise WeightsError(_remedy(error, repo, revision)) from error
        raise


def _remedy(error: Exception, repo: str, revision: str) -> str:
    from huggingface_hub import errors

    host = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    page = f"{host}/{repo}"
    token = (
        f"make a token at {host}/settings/tokens and store it with `hf auth login` or in HF_TOKEN"
    )
    if isinstance(error, errors.GatedRepoError):
        owner = repo.split("/")[0]
        return (
            f"{repo} is gated: log in at {page}, accept the licence of its owner ({owner}), {token}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repo} has no revision '{revision}': see {page}/commits/main"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"the hub shows no model {repo}: is {page} spelt right? If it is private, {token}"
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        status = error.response.status_code
        if status in (401, 403):
            return f"the hub refused the access token for {repo} (HTTP {status}): {token}"
        return (
            f"the hub answered for {page} with HTTP {status}: try later, or --offline with a copy"
        )
    if isinstance(error, errors.HFValidationError):
        return f"{repo} can't be a hub id: {first_line(error)}"
    if _unreachable(error):
        return (
            f"can't reach {host} to fetch {repo}, and no copy of it is on this machine: check the "
            f"connection or proxy, or copy the model's files here and name their folder"
        )
    return f"can't store {repo} in the hub's cache: {first_line(error)}"
