import { X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { KvidxError } from '../../src/common/errors.ts'
import { type CertificateValidity, validityOf } from './certificate-validity.ts'
import type { TlsFiles } from './config.ts'
import type { Log } from './log.ts'
import { MountedFiles } from './mounted-file.ts'

/** The certificate of a listener, read again when its files change. */
export class ServerCertificate {
  readonly files: MountedFiles
  #options: SecureContextOptions = {}
  #validity: CertificateValidity | undefined
  #onChange: ((options: SecureContextOptions) => void) | undefined

  private constructor(paths: TlsFiles, log: Log) {
    this.files = new MountedFiles(
      [paths.certFile, paths.keyFile],
      contents => {
        const options: SecureContextOptions = { minVersion: 'TLSv1.2' }
        for (const [member, path] of [
          ['cert', paths.certFile],
          ['key', paths.keyFile],
        ] as const) {
          const content = contents.get(path)
          if (!content) throw new KvidxError('invalid_parameter', `the TLS file ${path} does not exist`)
          options[member] = content
        }
        try {
          createSecureContext(options)
          this.#validity = validityOf(new X509Certificate(options.cert as Buffer))
        } catch (error) {
          // between two renames the certificate and the key may be of different pairs
          throw new KvidxError(
            'invalid_parameter',
            `${paths.certFile} and ${paths.keyFile} are no certificate with its key: ${(error as Error).message}`,
            {},
            error,
          )
        }
        this.#options = options
        this.#onChange?.(options)
      },
      log,
    )
  }

  /** Errors: invalid_parameter. */
  static async open(paths: TlsFiles, log: Log): Promise<ServerCertificate> {
    const certificate = new ServerCertificate(paths, log)
    await certificate.files.open()
    return certificate
  }

  get options(): SecureContextOptions {
    return this.#options
  }

  get validity(): CertificateValidity | undefined {
    return this.#validity
  }

  onChange(listener: (options: SecureContextOptions) => void): void {
    this.#onChange = listener
  }
}
