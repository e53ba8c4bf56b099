"""The database and the object store of the release, from the outside: what only their administrators may do."""

import secrets

import psycopg
from benchmarks.cluster import Cluster
from minio import Minio, MinioAdmin
from minio.credentials import StaticProvider

SERVERS = "visualindex-dev"
BUCKET = "visualindex"


class Database:
    """Postgres, as the user whose password the chart made up."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def images(self) -> int:
        """Rows of images, of whatever index."""
        return self._count("SELECT count(*) FROM images")

    def forget_vectors(self) -> None:
        """As after a loss: no vector and no colours of any image. What shards have in memory, they have still."""
        with psycopg.connect(self._dsn()) as connection:
            connection.execute("DELETE FROM image_embeddings")
            connection.execute("UPDATE images SET colours = NULL")

    def vectors(self) -> int:
        """Vectors of images, of whatever index."""
        return self._count("SELECT count(*) FROM image_embeddings")

    def chunks(self, job: str) -> int:
        """Chunks of a rebuild that are committed."""
        return self._count("SELECT count(*) FROM job_chunks WHERE job_id = %s", job)

    def change_password(self) -> str:
        """A new password, in the database and in the Secret of its server; the connection string with it."""
        password = secrets.token_hex(16)
        with psycopg.connect(self._dsn()) as connection:
            connection.execute(f"ALTER ROLE visualindex PASSWORD '{password}'")
        old = self._cluster.secret(SERVERS)
        dsn = old["dsn"].replace(old["postgresPassword"], password)
        self._cluster.write_secret(SERVERS, {**old, "postgresPassword": password, "dsn": dsn})
        return dsn

    def _count(self, query: str, *values: str) -> int:
        with psycopg.connect(self._dsn()) as connection:
            row = connection.execute(query, values).fetchone()
        assert row is not None
        return int(row[0])

    def _dsn(self) -> str:
        """By address: this machine may not know the cluster's names."""
        host = f"{SERVERS}.{self._cluster.namespace}.svc"
        return self._cluster.secret(SERVERS)["dsn"].replace(host, self._cluster.address(SERVERS))


class ObjectStore:
    """MinIO, as its root."""

    def __init__(self, cluster: Cluster) -> None:
        self._address = f"{cluster.address(SERVERS)}:9000"
        found = cluster.secret(SERVERS)
        self._keys = found["accessKey"], found["secretKey"]

    def objects(self) -> int:
        """Objects in the bucket."""
        client = Minio(self._address, *self._keys, secure=False)
        return sum(1 for _ in client.list_objects(BUCKET, recursive=True))

    def new_keys(self) -> tuple[str, str]:
        """Another pair of keys that may do the same."""
        admin = MinioAdmin(endpoint=self._address, credentials=StaticProvider(*self._keys), secure=False)
        access, secret = secrets.token_hex(10), secrets.token_hex(20)
        admin.add_service_account(access_key=access, secret_key=secret)
        return access, secret
