-- The database's own guards. A correct engine never meets one; if one is met, the batch is undone and reported as a bug.
--
-- Two live leases on one slice and protocol never overlap, unless both are members of the very same shared block, and no
-- live lease overlaps an extent. Both are disjoint already, so only the one that begins last at or below the end of the
-- new lease can overlap it: one step in an index each.
CREATE TRIGGER `leases_disjoint` BEFORE INSERT ON `leases` WHEN NEW.ended_at IS NULL AND (
	EXISTS (
		SELECT 1 FROM (
			SELECT first_port, last_port, mode FROM `leases`
			WHERE slice = NEW.slice AND protocol = NEW.protocol AND ended_at IS NULL AND first_port <= NEW.last_port
			ORDER BY first_port DESC LIMIT 1
		) AS other
		WHERE other.last_port >= NEW.first_port AND NOT (
			other.mode = 'shared' AND NEW.mode = 'shared'
			AND other.first_port = NEW.first_port AND other.last_port = NEW.last_port
		)
	)
	OR EXISTS (
		SELECT 1 FROM (
			SELECT last_port FROM `extents`
			WHERE slice = NEW.slice AND protocol = NEW.protocol AND first_port <= NEW.last_port
			ORDER BY first_port DESC LIMIT 1
		) AS other
		WHERE other.last_port >= NEW.first_port
	)
)
BEGIN SELECT RAISE(ABORT, 'a live lease would overlap another, or an extent'); END;
--> statement-breakpoint
CREATE TRIGGER `extents_disjoint` BEFORE INSERT ON `extents` WHEN
	EXISTS (
		SELECT 1 FROM (
			SELECT last_port FROM `extents`
			WHERE slice = NEW.slice AND protocol = NEW.protocol AND first_port <= NEW.last_port
			ORDER BY first_port DESC LIMIT 1
		) AS other
		WHERE other.last_port >= NEW.first_port
	)
	OR EXISTS (
		SELECT 1 FROM (
			SELECT last_port FROM `leases`
			WHERE slice = NEW.slice AND protocol = NEW.protocol AND ended_at IS NULL AND first_port <= NEW.last_port
			ORDER BY first_port DESC LIMIT 1
		) AS other
		WHERE other.last_port >= NEW.first_port
	)
BEGIN SELECT RAISE(ABORT, 'an extent would overlap another, or a live lease'); END;
--> statement-breakpoint
-- An extent that shrinks cannot begin to overlap: grants, which only shrink, pay nothing for this one.
CREATE TRIGGER `extents_grow_disjoint` BEFORE UPDATE OF first_port, last_port ON `extents`
WHEN (NEW.last_port > OLD.last_port OR NEW.first_port <> OLD.first_port) AND (
	NEW.first_port <> OLD.first_port
	OR EXISTS (
		SELECT 1 FROM `extents` WHERE slice = NEW.slice AND protocol = NEW.protocol
		AND first_port > NEW.first_port AND first_port <= NEW.last_port
	)
	OR EXISTS (
		SELECT 1 FROM `leases` WHERE slice = NEW.slice AND protocol = NEW.protocol AND ended_at IS NULL
		AND first_port >= NEW.first_port AND first_port <= NEW.last_port
	)
)
BEGIN SELECT RAISE(ABORT, 'an extent would grow over another, or over a live lease'); END;
--> statement-breakpoint
CREATE TRIGGER `leases_stay_over` BEFORE UPDATE OF ended_at ON `leases` WHEN OLD.ended_at IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'a lease that is over does not come back'); END;
--> statement-breakpoint
CREATE TRIGGER `leases_stay_put` BEFORE UPDATE OF slice, generation, protocol, first_port, last_port ON `leases`
BEGIN SELECT RAISE(ABORT, 'a lease does not move'); END;
--> statement-breakpoint
CREATE TRIGGER `slices_generation` BEFORE UPDATE OF generation ON `slices` WHEN NEW.generation < OLD.generation
BEGIN SELECT RAISE(ABORT, 'the generation of a slice only rises'); END;
