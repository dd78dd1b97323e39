/** `20261123t0200z`: the slot of a scheduled backup, UTC. @param time Unix ms */
export function slotOf(time: number): string {
  const iso = new Date(time).toISOString()
  return `${iso.slice(0, 10).replaceAll('-', '')}t${iso.slice(11, 16).replace(':', '')}z`
}

/** Name of a backup of a schedule; a retry of its slot has the same. */
export function scheduledName(database: string, schedule: string, slot: number): string {
  return `${database}-${schedule}-${slotOf(slot)}`
}

/** Name of a backup made by hand, to the millisecond: two of one second are two backups. At most 27 characters longer than the database's. */
export function manualName(database: string, time: number): string {
  const milliseconds = new Date(time).toISOString().slice(17, 23).replace('.', '')
  return `${database}-manual-${slotOf(time).slice(0, -1)}${milliseconds}z`
}
