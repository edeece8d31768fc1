// Gives back the memory that shows the files of this program: Node's own code and data, of which a start takes much
// that is not needed again. The pages stay in the kernel's cache of files; what is needed again comes back from there.

#include "addon.h"

#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

// Smaller ones are not worth a call.
constexpr size_t kSmallestSegment = 1024 * 1024;

// Whether all of it shows one file, as proc(5) says. Node can have moved its code to memory of its own
// (--use-largepages): there is no other copy of that.
bool ShowsFile(uintptr_t begin, uintptr_t end) {
  FILE* maps = fopen("/proc/self/maps", "re");
  if (maps == nullptr) return false;
  char line[512];
  unsigned long from, to, inode;
  bool shows = false;
  while (!shows && fgets(line, sizeof line, maps) != nullptr) {
    if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &from, &to, &inode) != 3) continue;
    shows = from <= begin && end <= to && inode != 0;
  }
  fclose(maps);
  return shows;
}

// Parts that are never written to have nothing to lose: the kernel reads them anew from the file (madvise(2)).
int ReleaseSegments(struct dl_phdr_info* object, size_t, void*) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0 || segment.p_filesz < kSmallestSegment) continue;
    const uintptr_t begin = (object->dlpi_addr + segment.p_vaddr) & ~(page - 1);
    const uintptr_t end = (object->dlpi_addr + segment.p_vaddr + segment.p_filesz) & ~(page - 1);
    if (ShowsFile(begin, end)) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
  return 0;
}

}  // namespace

// releaseProgramPages(): memory that cannot be given back stays.
napi_value ReleaseProgramPages(napi_env, napi_callback_info) {
  dl_iterate_phdr(ReleaseSegments, nullptr);
  return nullptr;
}
