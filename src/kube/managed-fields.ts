/** One entry of metadata.managedFields. */
export interface ManagedFields {
  readonly manager?: string
  readonly operation?: string
  readonly apiVersion?: string
  readonly time?: string
  readonly fieldsType?: string
  readonly fieldsV1?: FieldSet
  readonly subresource?: string
}

/** Sets of fields as `f:name`, `k:{...}` and so on; an empty one is a leaf. */
export interface FieldSet {
  readonly [field: string]: FieldSet
}

/**
 * The entries with what a manager wrote by create or update turned into what it applied; undefined when there is nothing of that. Without it, a
 * field that was created and is later left out of an apply would stay, because the create still owns it. Pure.
 */
export function asApplied(entries: readonly ManagedFields[], manager: string): readonly ManagedFields[] | undefined {
  const own = (entry: ManagedFields) => entry.manager === manager && entry.subresource === undefined
  const written = entries.filter(entry => own(entry) && entry.operation === 'Update')
  if (written.length === 0) return undefined
  const mine = entries.filter(own)
  const fieldsV1 = mine.map(entry => entry.fieldsV1 ?? {}).reduce(union)
  // as the server wrote it: with the version that its fields are named in
  const applied: ManagedFields = { ...(written.at(-1) as ManagedFields), operation: 'Apply', fieldsV1 }
  return [...entries.filter(entry => !own(entry)), applied]
}

function union(a: FieldSet, b: FieldSet): FieldSet {
  const merged: Record<string, FieldSet> = { ...a }
  for (const [field, set] of Object.entries(b)) {
    const there = merged[field]
    merged[field] = there ? union(there, set) : set
  }
  return merged
}
