import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { loadAddon } from '../../src/netlink/socket.ts'

/** Resident pages of files, in kB (proc(5)). */
const residentFiles = (): number =>
  Number(/^RssFile:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1])

describe('releaseProgramPages', () => {
  it('gives most of the pages of files back, and the program goes on', () => {
    const digest = (): string => createHash('sha512').update('kube-ipvs').digest('hex')
    const [before, expected] = [residentFiles(), digest()]
    loadAddon().releaseProgramPages()
    expect(residentFiles()).to.be.below(before / 2)
    expect(digest()).to.equal(expected)
  })
})
