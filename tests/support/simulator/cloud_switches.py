"""Unknown behaviour of Cloud Registry as settings: the default is the likelier one, every position is possible."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CloudSwitches:
    """One field per uncertain behaviour that only Cloud Registry has."""

    artifacts_of_image: Literal["per_tag", "per_digest"] = "per_tag"  # per_digest: tags in `properties`
    untagged_artifacts: Literal["listed", "not_listed"] = "listed"  # not listed: no call shows them
    artifact_path: Literal["full", "parent"] = "full"  # /shop/api/1.4.2, or /shop/api
    deleted_artifact: Literal["tag", "manifest"] = "tag"  # the artifacts that are deleted with the artifact of a tag
    last_tag: Literal["manifest_gone", "manifest_stays"] = "manifest_gone"  # when it is deleted
    moved_tag: Literal["same_artifact", "new_artifact"] = "same_artifact"  # new: the old becomes the untagged one
    child_artifacts: Literal["listed", "not_listed"] = "listed"  # of untagged children of indexes
    deleted_child: Literal["accepted", "refused", "operation_error"] = "accepted"  # refused: at once
    after_deletion: Literal["not_found", "status"] = "not_found"  # status: DELETING, then DELETED, and still listed
    soft_deleted: Literal["deleted", "active", "not_listed"] = "deleted"  # by a policy; active: `properties` tell
    default_page_size: Literal[10, 100] = 10
    both_scopes: Literal["refused", "registry_wins", "folder_wins"] = "refused"  # registryId and folderId in one call
    immutable: bool = False  # a name that was deleted without its history cannot be pushed again
    times_after_migration: Literal["kept", "migration"] = "kept"  # migration: all in the hours before the switch
    migration: Literal["finished", "unfinished"] = "finished"  # unfinished: deletions are answered 429, Retry-After
    lacking_role: Literal["denied", "not_found"] = "denied"  # how `may_view` and `may_delete` show when they are off
