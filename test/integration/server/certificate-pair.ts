import { execFileSync } from 'node:child_process'
import { join } from 'node:path'

/** A self-signed certificate for 127.0.0.1 and its key, valid from now on, as they lie in a mounted Secret. */
export function certificatePair(name: string, directory: string, days = 2): { certFile: string; keyFile: string } {
  const [certFile, keyFile] = [join(directory, 'tls.crt'), join(directory, 'tls.key')]
  execFileSync(
    'openssl',
    `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days ${days} -subj /CN=${name} -addext subjectAltName=IP:127.0.0.1 -keyout ${keyFile} -out ${certFile}`.split(
      ' ',
    ),
    { stdio: 'pipe' },
  )
  return { certFile, keyFile }
}
