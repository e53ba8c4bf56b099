"""What an answer of an S3 server means for the operator: is it worth trying again, and what has to be put right."""

import ssl

import urllib3
from minio.error import InvalidResponseError, S3Error, ServerError

from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.models import S3Spec

_INSUFFICIENT_STORAGE = 507
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"}
_BUSY = {"SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "InternalError", "RequestTimeout"}
_RETRY_AFTER_S = 5.0
_FULL_RETRY_S = 30.0

_REMEDIES = {
    "NoSuchBucket": "the bucket does not exist: create it or correct storage.s3.bucket",
    "InvalidBucketName": "the bucket name is not valid: correct storage.s3.bucket",
    "InvalidAccessKeyId": "the access key is unknown: correct the credentials",
    "SignatureDoesNotMatch": "the secret key is wrong: correct the credentials",
    "AccessDenied": "access is denied: check the credentials and allow s3:GetObject, s3:PutObject, s3:DeleteObject and "
    "s3:ListBucket on this bucket",
    "AuthorizationHeaderMalformed": "the region is wrong: correct storage.s3.region",
    "PermanentRedirect": "the bucket lives in another region: correct storage.s3.endpoint and storage.s3.region",
    "RequestTimeTooSkewed": "the clocks differ too much: synchronise this machine's clock",
}


class DeletionError(Exception):
    """The server refused to delete some objects of a batch."""

    def __init__(self, code: str, count: int) -> None:
        super().__init__(f"{count} objects were not deleted: {code}")
        self.code = code


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a moment later."""
    if _certificate_is_wrong(error) or is_full(error):
        return False
    if isinstance(error, urllib3.exceptions.HTTPError):
        return True
    return code_of(error) in _BUSY or status_of(error) >= 500


def is_missing_object(error: BaseException) -> bool:
    """Whether the answer was that there is no object of this name."""
    return isinstance(error, S3Error) and error.code == "NoSuchKey"


def is_full(error: BaseException) -> bool:
    """Whether the server has no room left."""
    return code_of(error) in _FULL or status_of(error) == _INSUFFICIENT_STORAGE


def code_of(error: BaseException) -> str:
    """The S3 error code of an answer; empty when it carried none."""
    return (error.code or "") if isinstance(error, S3Error | DeletionError) else ""


def status_of(error: BaseException) -> int:
    """The HTTP status of an answer; 0 when there was no answer."""
    if isinstance(error, S3Error):
        return int(error.response.status)
    if isinstance(error, ServerError):
        return error.status_code
    # The client keeps the status of a non-XML answer in this attribute alone.
    return int(error._code) if isinstance(error, InvalidResponseError) else 0


def problem_of(error: BaseException, spec: S3Spec) -> ProblemError:
    """What a caller and an operator get to read about a failed request."""
    place = f"bucket {spec.bucket} at {spec.endpoint}"
    if is_full(error):
        detail = f"no room left in {place}: free space, enlarge its volumes or raise its quota"
        return ProblemError(ProblemType.STORAGE_FULL, detail, retry_after_s=_FULL_RETRY_S)
    if _certificate_is_wrong(error):
        detail = (
            f"{place}: the TLS connection cannot be trusted: check the server's certificate, name a private "
            "authority in SSL_CERT_FILE, or set storage.s3.secure to false for a server without TLS"
        )
        return ProblemError(ProblemType.UNAVAILABLE, detail)
    if isinstance(error, urllib3.exceptions.HTTPError):
        detail = f"{place} does not answer: check storage.s3.endpoint and that the server is running"
        return ProblemError(ProblemType.UNAVAILABLE, detail, retry_after_s=_RETRY_AFTER_S)
    return _answered(error, place)


def _answered(error: BaseException, place: str) -> ProblemError:
    code, status = code_of(error), status_of(error)
    if code in _REMEDIES:
        return ProblemError(ProblemType.UNAVAILABLE, f"{place}: {_REMEDIES[code]}")
    detail = (
        f"{place} answers {code or status or type(error).__name__}: look into the log of the object store"
    )
    return ProblemError(
        ProblemType.UNAVAILABLE, detail, retry_after_s=_RETRY_AFTER_S if is_transient(error) else None
    )


def _certificate_is_wrong(error: BaseException) -> bool:
    return isinstance(error, urllib3.exceptions.SSLError | ssl.SSLError)
