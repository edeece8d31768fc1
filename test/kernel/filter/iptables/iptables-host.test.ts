import { expect } from 'chai'
import { linuxHost } from '../../../../src/kernel/filter/iptables/iptables-host.ts'
import { rejectionOf } from '../../../support/rejection.ts'

describe('linuxHost', () => {
  it('feeds a program, and returns what it prints', async () => {
    expect(await linuxHost().run('cat', [], 'a\nb\n')).to.equal('a\nb\n')
  })

  it('says by what code, and with what words, a program failed', async () => {
    const error = await rejectionOf(linuxHost().run('sh', ['-c', 'echo no >&2; exit 3'], 'unread'))

    expect(error).to.include({ code: 3, stderr: 'no\n' })
  })

  it('ends a program with the signal, and starts no other one', async () => {
    const abort = new AbortController()
    const host = linuxHost(abort.signal)
    const running = host.run('sleep', ['600'])
    abort.abort()

    expect(await rejectionOf(running)).to.include({ name: 'AbortError' })
    expect(await rejectionOf(host.run('true', []))).to.include({ name: 'AbortError' })
  })
})
