-- The database's own guard: two live leases on one slice and protocol never overlap, unless both are members of the very
-- same shared block. Live leases are disjoint already, so the one that begins last at or below the new one's end is the only
-- one that could overlap it: one step in the index leases_live.
CREATE TRIGGER `leases_disjoint` BEFORE INSERT ON `leases` WHEN NEW.ended_at IS NULL AND EXISTS (
	SELECT 1 FROM (
		SELECT first_port, last_port, mode FROM `leases`
		WHERE slice = NEW.slice AND protocol = NEW.protocol AND ended_at IS NULL AND first_port <= NEW.last_port
		ORDER BY first_port DESC LIMIT 1
	) AS other
	WHERE other.last_port >= NEW.first_port
	AND NOT (other.mode = 'shared' AND NEW.mode = 'shared' AND other.first_port = NEW.first_port AND other.last_port = NEW.last_port)
)
BEGIN SELECT RAISE(ABORT, 'two live leases would overlap'); END;
