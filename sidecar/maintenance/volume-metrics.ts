import { Gauge, type Registry } from 'prom-client'
import type { VolumeStatus } from './volume-watch.ts'

/** Metrics of the volume, from what `/status` says of it. */
export function registerVolumeMetrics(registry: Registry, status: () => VolumeStatus): void {
  const gauge = (name: string, help: string, read: (volume: VolumeStatus) => number | undefined) =>
    new Gauge({
      name,
      help,
      registers: [registry],
      collect() {
        const value = read(status())
        // a gauge of prom-client begins with 0, which of days until full would be an alarm
        if (value === undefined) this.remove()
        else this.set(value)
      },
    })
  gauge('kvidx_volume_size_bytes', 'Size of the file system of the volume', volume => volume.size)
  gauge('kvidx_volume_free_bytes', 'Free bytes of the file system of the volume', volume => volume.free)
  gauge(
    'kvidx_volume_days_until_full',
    'Days until the volume is full at the growth of the last days',
    volume => volume.daysUntilFull,
  )
  gauge(
    'kvidx_quarantine_bytes',
    'Bytes of what was put out of the way on the volume',
    volume => volume.quarantine.bytes,
  )
}
