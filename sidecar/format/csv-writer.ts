import { MAX_DECIMAL } from './output-buffer.ts'
import type { RecordWriter } from './record-writer.ts'
import { ascii } from './text.ts'

const ROW_OVERHEAD = 8 + 3 * MAX_DECIMAL

/** 1: the field needs quotes; 2: and the byte is doubled. */
const SPECIAL = new Uint8Array(256)
SPECIAL[0x2c] = 1
SPECIAL[0x0a] = 1
SPECIAL[0x0d] = 1
SPECIAL[0x22] = 2

/** kvidxkit's CSV export, byte for byte. Without values the data column is left out. */
export function csvWriter(metadata: boolean, values: boolean): RecordWriter {
  const columns = ['key', ...(metadata ? ['term', 'cmd'] : []), ...(values ? ['data'] : [])]
  const header = ascii(`${columns.join(',')}\n`)
  return {
    header(out) {
      out.reserve(header.length)
      out.raw(header)
    },
    record(out, record) {
      const { data } = record
      let quoted = false
      let doubled = 0
      if (values) {
        for (let i = 0; i < data.length; i++) {
          const special = SPECIAL[data[i] as number] as number
          if (special === 0) continue
          quoted = true
          if (special === 2) doubled++
        }
      }
      out.reserve(ROW_OVERHEAD + (values ? data.length + doubled : 0))
      out.decimal(record.key)
      if (metadata) {
        out.u8(0x2c)
        out.decimal(record.term)
        out.u8(0x2c)
        out.decimal(record.cmd)
      }
      if (values) {
        out.u8(0x2c)
        if (quoted) out.u8(0x22)
        if (doubled === 0) out.raw(data)
        else {
          const { bytes } = out
          let at = out.length
          for (let i = 0; i < data.length; i++) {
            const byte = data[i] as number
            if (byte === 0x22) bytes[at++] = byte
            bytes[at++] = byte
          }
          out.length = at
        }
        if (quoted) out.u8(0x22)
      }
      out.u8(0x0a)
    },
    footer() {},
  }
}
