-- The database's own guards. A correct engine never meets one; if one is met, the batch is undone and reported as a bug.
-- Constraints hold against anybody who writes to the database, at the same time or not.
CREATE EXTENSION IF NOT EXISTS btree_gist;
--> statement-breakpoint
-- Two live leases on one slice and protocol never overlap, unless both are members of the very same shared block. The last
-- element is equal for members of one block and for nobody else: an exclusive lease brings its own id, which is positive,
-- a shared one the negative of where its block is.
ALTER TABLE "leases" ADD CONSTRAINT "leases_disjoint" EXCLUDE USING gist (
	"slice" WITH =,
	"protocol" WITH =,
	int4range("first_port", "last_port", '[]') WITH &&,
	(CASE "mode" WHEN 'shared' THEN -("first_port"::bigint * 65536 + "last_port") ELSE "id" END) WITH <>
) WHERE ("ended_at" IS NULL);
--> statement-breakpoint
ALTER TABLE "extents" ADD CONSTRAINT "extents_disjoint" EXCLUDE USING gist (
	"slice" WITH =,
	"protocol" WITH =,
	int4range("first_port", "last_port", '[]') WITH &&
);
--> statement-breakpoint
-- Slices of one address that machines have are disjoint too, whatever their size and whoever has them.
ALTER TABLE "slices" ADD CONSTRAINT "slices_disjoint" EXCLUDE USING gist (
	"address" WITH =,
	int4range("first_port", "last_port", '[]') WITH &&
) WHERE ("machine" IS NOT NULL);
--> statement-breakpoint
-- No live lease overlaps an extent. Both kinds are disjoint, so only the one that begins last at or below the end of what
-- is new can overlap it: one step in an index for each row.
CREATE FUNCTION "leases_beside_extents"() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	clash record;
BEGIN
	SELECT added.*, other.state AS other_state, other.first_port AS other_first, other.last_port AS other_last INTO clash
	FROM added CROSS JOIN LATERAL (
		SELECT state, first_port, last_port FROM extents
		WHERE slice = added.slice AND protocol = added.protocol AND first_port <= added.last_port
		ORDER BY first_port DESC LIMIT 1
	) AS other
	WHERE added.ended_at IS NULL AND other.last_port >= added.first_port LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'a live lease would overlap an extent: % lease % (ports %-%/%) of slice % and the % extent %-%',
			clash.mode, clash.id, clash.first_port, clash.last_port, clash.protocol, clash.slice,
			clash.other_state, clash.other_first, clash.other_last USING ERRCODE = 'exclusion_violation';
	END IF;
	RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER "leases_beside_extents" AFTER INSERT ON "leases" REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION "leases_beside_extents"();
--> statement-breakpoint
CREATE FUNCTION "extents_beside_leases"() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	clash record;
BEGIN
	SELECT added.*, other.id AS lease, other.first_port AS other_first, other.last_port AS other_last INTO clash
	FROM added CROSS JOIN LATERAL (
		SELECT id, first_port, last_port FROM leases
		WHERE slice = added.slice AND protocol = added.protocol AND ended_at IS NULL AND first_port <= added.last_port
		ORDER BY first_port DESC LIMIT 1
	) AS other
	WHERE other.last_port >= added.first_port LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'an extent would overlap a live lease: the % extent (ports %-%/%) of slice % and lease % (%-%)',
			clash.state, clash.first_port, clash.last_port, clash.protocol, clash.slice,
			clash.lease, clash.other_first, clash.other_last USING ERRCODE = 'exclusion_violation';
	END IF;
	RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER "extents_beside_leases" AFTER INSERT ON "extents" REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION "extents_beside_leases"();
--> statement-breakpoint
CREATE TRIGGER "extents_grow_beside_leases" AFTER UPDATE ON "extents" REFERENCING NEW TABLE AS added
FOR EACH STATEMENT EXECUTE FUNCTION "extents_beside_leases"();
--> statement-breakpoint
CREATE FUNCTION "refuse_change"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'integrity_constraint_violation';
END $$;
--> statement-breakpoint
CREATE TRIGGER "leases_stay_over" BEFORE UPDATE ON "leases" FOR EACH ROW
WHEN (OLD.ended_at IS NOT NULL AND OLD.ended_at IS DISTINCT FROM NEW.ended_at)
EXECUTE FUNCTION "refuse_change"('a lease that is over does not come back');
--> statement-breakpoint
CREATE TRIGGER "leases_stay_put" BEFORE UPDATE ON "leases" FOR EACH ROW
WHEN ((OLD.slice, OLD.generation, OLD.protocol, OLD.first_port, OLD.last_port)
	IS DISTINCT FROM (NEW.slice, NEW.generation, NEW.protocol, NEW.first_port, NEW.last_port))
EXECUTE FUNCTION "refuse_change"('a lease does not move');
--> statement-breakpoint
CREATE TRIGGER "slices_generation" BEFORE UPDATE ON "slices" FOR EACH ROW WHEN (NEW.generation < OLD.generation)
EXECUTE FUNCTION "refuse_change"('the generation of a slice only rises');
--> statement-breakpoint
-- What is written must meet the rows that were loaded, all of them. The commit is sent along with the writes, so the
-- database counts.
CREATE FUNCTION "must_meet"("step" text, "met" bigint, "wanted" integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF met <> wanted THEN
		RAISE EXCEPTION '% met % rows instead of %', step, met, wanted USING ERRCODE = 'integrity_constraint_violation';
	END IF;
END $$;
