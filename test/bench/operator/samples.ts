/** The series of one look at the operator's /metrics. */
export class Samples {
  readonly #series: readonly (readonly [string, number])[]

  constructor(text: string) {
    this.#series = text
      .split('\n')
      .filter(line => line !== '' && !line.startsWith('#'))
      .map(line => {
        const at = line.lastIndexOf(' ')
        return [line.slice(0, at), Number(line.slice(at + 1))] as const
      })
  }

  /** Requests to the API server, without watches. */
  requests(which: (labels: string) => boolean = () => true): number {
    return this.#requests()
      .filter(([labels]) => which(labels))
      .reduce((sum, [, value]) => sum + value, 0)
  }

  reconciles(): number {
    return this.#series
      .filter(([series]) => series.startsWith('kvidx_operator_reconcile_total{') && series.includes('"database"'))
      .reduce((sum, [, value]) => sum + value, 0)
  }

  /** Of the reconciles of databases, seconds: the upper end of the bucket. */
  quantile(part: number): number {
    const buckets = this.#series
      .filter(
        ([series]) =>
          series.startsWith('kvidx_operator_reconcile_duration_seconds_bucket{') &&
          series.includes('controller="database"'),
      )
      .map(([series, value]) => [Number(/le="([^"]+)"/.exec(series)?.[1]?.replace('+Inf', 'Infinity')), value] as const)
      .toSorted(([a], [b]) => a - b)
    const all = buckets.at(-1)?.[1] ?? 0
    return buckets.find(([, value]) => value >= part * all)?.[0] ?? Number.NaN
  }

  /** Requests since an earlier look, most first. */
  byVerb(before: Samples): readonly (readonly [string, number])[] {
    const then = new Map(before.#requests())
    return this.#requests()
      .map(([labels, value]) => [labels, value - (then.get(labels) ?? 0)] as const)
      .filter(([, value]) => value > 0)
      .toSorted(([, a], [, b]) => b - a)
  }

  #requests(): readonly (readonly [string, number])[] {
    return this.#series.filter(
      ([series]) => series.startsWith('kvidx_operator_api_requests_total{') && !series.includes('verb="watch"'),
    )
  }
}
