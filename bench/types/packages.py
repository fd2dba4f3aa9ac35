"""The packages whose files are the corpus: Debian's, and source distributions with test data."""

DEBIAN = (
    "aspell-en", "debian-handbook", "default-jre-headless", "djvulibre-bin", "fonts-font-awesome", "fonts-lmodern",
    "gettext-base", "ghostscript", "gir1.2-gtk-3.0", "git-doc", "grub-efi-amd64-bin", "gsfonts", "hyphen-en-us",
    "ipxe-qemu", "iso-codes", "libcommons-lang3-java", "libgl1-mesa-dri", "libgs-common", "libjs-mathjax",
    "libreoffice-common", "libwine", "memtest86+", "mingw-w64-i686-dev", "ncurses-term", "openjdk-17-jre-headless",
    "perl-doc", "pingus-data", "poppler-data", "python3-doc", "shared-mime-info", "sound-theme-freedesktop",
    "supertux-data", "texlive-base", "timgm6mb-soundfont", "vim-runtime", "xfonts-base",
)  # fmt: skip

PYPI = (
    "arpy", "dbfread", "extract-msg", "feedparser", "filetype", "fonttools", "gpxpy", "icalendar", "libarchive-c",
    "macholib", "mail-parser", "mammoth", "markitdown", "moviepy", "mutagen", "odfpy", "olefile", "oletools",
    "openpyxl", "patool", "pdfminer.six", "pikepdf", "pillow-heif", "puremagic", "py7zr", "pydicom", "pydub",
    "pyelftools", "pypdf", "pyshp", "python-docx", "python-pcapng", "python-pptx", "rarfile", "rpmfile", "scapy",
    "svglib", "tinytag", "xlrd", "xlsx2csv",
)  # fmt: skip
