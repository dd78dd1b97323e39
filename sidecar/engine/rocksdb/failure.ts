import { type ErrorCode, KvidxError } from '../../../src/common/errors.ts'

/** Which error of ours a message of RocksDB stands for. The C API gives nothing but text: `Status::ToString()`. */
export function rocksErrorCode(message: string): ErrorCode {
  if (/No space left|Disk quota exceeded|Out of space|SpaceLimit/i.test(message)) return 'no_space'
  if (/While lock file|lock hold by current process/i.test(message)) return 'locked'
  if (/^Corruption|checksum mismatch|bad block|truncated (record|block)/i.test(message)) return 'engine_corrupt'
  if (/Compression type .* is not linked/i.test(message)) return 'setting_unsupported'
  return 'engine_io'
}

/** @param doing what was tried, for the message: "write", "open /data/db/main.rocks" */
export function rocksFailure(message: string, doing: string): KvidxError {
  const code = rocksErrorCode(message)
  const field = code === 'setting_unsupported' ? { field: 'tuning.compression' } : {}
  return new KvidxError(code, `RocksDB, ${doing}: ${message}`, field)
}
