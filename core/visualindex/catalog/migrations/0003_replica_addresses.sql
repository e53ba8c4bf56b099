-- Where gateways reach a replica. One of the release before has none, and is asked by gateways of that release.
-- min_reader: 1

ALTER TABLE replicas ADD COLUMN address text;
