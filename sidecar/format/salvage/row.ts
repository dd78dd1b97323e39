import { varint } from './btree-page.ts'

/** A value of a row as SQLite stores it. */
export type Value = null | bigint | { readonly kind: 'blob' | 'text'; readonly bytes: Buffer }

const INTEGER_BYTES = [0, 1, 2, 3, 4, 6, 8] as const

/** The values of a whole payload; undefined when header and body do not fit each other exactly. */
export function parseRow(payload: Buffer, maxColumns: number): Value[] | undefined {
  const header = varint(payload, 0, payload.length)
  if (header === undefined || header.value > BigInt(payload.length)) return undefined
  const bodyStart = Number(header.value)
  const values: Value[] = []
  let at = header.end
  let body = bodyStart
  while (at < bodyStart) {
    const serial = varint(payload, at, bodyStart)
    if (serial === undefined || values.length === maxColumns || serial.value > 0xffff_ffffn) return undefined
    at = serial.end
    const type = Number(serial.value)
    const size = sizeOf(type)
    if (size === undefined || body + size > payload.length) return undefined
    values.push(decodeValue(type, payload.subarray(body, body + size)))
    body += size
  }
  return at === bodyStart && body === payload.length ? values : undefined
}

function sizeOf(type: number): number | undefined {
  if (type >= 12) return (type - (type % 2 === 0 ? 12 : 13)) / 2
  if (type === 7) return 8
  if (type === 8 || type === 9) return 0
  return INTEGER_BYTES[type]
}

function decodeValue(type: number, bytes: Buffer): Value {
  if (type === 0) return null
  if (type >= 12) return { kind: type % 2 === 0 ? 'blob' : 'text', bytes }
  if (type === 8) return 0n
  if (type === 9) return 1n
  // a real: kvidxkit stores none; its bytes are kept apart from integers
  if (type === 7) return { kind: 'blob', bytes }
  let value = 0n
  for (const byte of bytes) value = (value << 8n) | BigInt(byte)
  return BigInt.asIntN(bytes.length * 8, value)
}
