import { collectDefaultMetrics, type Registry } from 'prom-client'

/** Gauges whose names end as a counter's must (`promtool check metrics` refuses them), and what they are the sums of: each scrape walks every handle. */
const LEFT_OUT = ['nodejs_active_handles', 'nodejs_active_requests', 'nodejs_active_resources'].flatMap(name => [
  name,
  `${name}_total`,
])

/** `process_*` and `nodejs_*` of this process. */
export function registerProcessMetrics(registry: Registry): void {
  collectDefaultMetrics({ register: registry })
  for (const name of LEFT_OUT) registry.removeSingleMetric(name)
}
