/** The known word that is most likely meant by an unknown one, or undefined when none is near. Case does not count. */
export function suggest(unknown: string, known: readonly string[]): string | undefined {
  const wanted = unknown.toLowerCase()
  let best: string | undefined
  // a third of the letters may be wrong; longer words would be compared for nothing
  let limit = Math.max(1, Math.floor(Math.min(unknown.length, 64) / 3)) + 1
  for (const word of known) {
    const distance = word.toLowerCase() === wanted ? 0 : editDistance(wanted, word.toLowerCase(), limit)
    if (distance < limit) {
      best = word
      limit = distance
    }
  }
  return best
}

/** Insertions, deletions, replacements and swaps of neighbours between two words; `limit` when it is at least that. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit
  let beforeLast: number[] = []
  let last = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      let cost = Math.min(replaced, (last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        cost = Math.min(cost, (beforeLast[j - 2] ?? 0) + 1)
      row.push(cost)
    }
    beforeLast = last
    last = row
  }
  return Math.min(last[b.length] ?? limit, limit)
}
