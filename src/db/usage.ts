const ports = (family: string, state: string): string =>
  `SELECT pool, machine, ${family} AS family, protocol, ${state} AS state, last_port - first_port + 1 AS ports FROM`;

/** Counts what holders have on machines where that is kept. */
export const heldSql = `SELECT machine, holder, protocol, sum(last_port - first_port + 1) AS ports FROM leases
  WHERE ended_at IS NULL AND state IN ('pending', 'active', 'ending')
  AND machine IN (SELECT id FROM machines WHERE limited_holders > 0) GROUP BY machine, holder, protocol`;

/** Of a free extent that the server does not grant from: whether its machine does. */
const unoffered = `CASE WHEN state = 'free' AND offered = 0
    THEN CASE allocator WHEN 'machine' THEN 'machine_allocated' ELSE 'withheld' END ELSE state END`;

/** Counts the ports of every live row, which takes as long as there are such: columns as in `UsageRow`, in its order. */
export const usageSql = `SELECT pool, machine, family, protocol, state, sum(ports) AS ports FROM (
    ${ports('family', unoffered)} extents
    UNION ALL ${ports(
      `CASE WHEN address LIKE '%:%' THEN 6 ELSE 4 END`,
      `CASE state WHEN 'cooling' THEN 'cooling' ELSE 'exclusive' END`,
    )} leases
      WHERE ended_at IS NULL AND (mode = 'exclusive' OR state = 'cooling')
    UNION ALL ${ports('family', `'shared'`)} shared_blocks
  ) AS pieces GROUP BY pool, machine, family, protocol, state`;
