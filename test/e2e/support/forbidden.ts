/** How often the same refusal may stand in a log before a right is missing. */
const PASSING = 3

/**
 * What the operator was refused again and again. A right that it lacks is asked for at every retry; an API server that just started refuses a
 * request or two of anybody, until it has read its roles.
 */
export function missingRights(log: string): readonly string[] {
  const counts = new Map<string, number>()
  for (const line of log.split('\n')) {
    const what = /cannot (\w+) resource \\*"([\w./]+)/.exec(line)
    if (what) counts.set(`${what[1]} ${what[2]}`, (counts.get(`${what[1]} ${what[2]}`) ?? 0) + 1)
  }
  return [...counts].filter(([, count]) => count >= PASSING).map(([what, count]) => `${what}: ${count} times`)
}
