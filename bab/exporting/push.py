"""An exported folder to a model hub, by huggingface_hub."""

from __future__ import annotations

import os
from pathlib import Path

from bab.core.errors import BabError


def refuse_name(repo: str) -> None:
    """Raises BabError: no name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise BabError(f"--push {repo}: {str(error).splitlines()[0]}") from None
    if repo.count("/") != 1:
        raise BabError(f"--push {repo}: name it OWNER/NAME, as in --push anna/vtc-homes")


def push(folder: Path, repo: str, public: bool) -> str:
    """Make the repository where it isn't there (private unless `public`), and upload the folder.

    Returns the page's address. A repository that is there keeps who may see it.

    Raises:
        BabError: no token, a refusal, no connection; in one line, with the remedy.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    host = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    where = f"make one that may write at {host}/settings/tokens, and store it with `hf auth login`"
    if not get_token():
        raise BabError(f"--push needs an access token: {where} or in HF_TOKEN; {_kept(folder)}")
    api = HfApi(endpoint=host, library_name="bab")
    try:
        made = api.create_repo(repo, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Exported by bab")
    except OfflineModeIsEnabled:
        raise BabError(f"--push: HF_HUB_OFFLINE forbids it; {_kept(folder)}") from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise BabError(
                f"the hub refused to write {repo} (HTTP {status}): the token must be allowed to "
                f"write there; {where}; {_kept(folder)}"
            ) from None
        said = " ".join(str(error).split())[:200]
        raise BabError(f"the hub did not take {repo}: {said}; {_kept(folder)}") from None
    except Exception as error:  # of the network: httpx's, or the system's
        client = type(error).__module__.startswith(("httpx", "httpcore"))  # also httpx2
        if not isinstance(error, OSError) and not client:
            raise
        raise BabError(
            f"can't reach {host} to push {repo}: check the connection or proxy; {_kept(folder)}"
        ) from None
    return str(made)


def _kept(folder: Path) -> str:
    return f"the export itself is done, in {folder}"
