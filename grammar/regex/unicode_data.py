"""Unicode properties that `unicodedata` does not know: scripts (Scripts.txt) and emoji (emoji-data.txt) of Unicode 17.

Each value is an inversion list in hexadecimal: alternating the first code point of a range and the first after it.
"""

from __future__ import annotations

# fmt: off
# ruff: noqa: E501
SCRIPTS: dict[str, str] = {
    "Arabic": (
        "600 605 606 60c 60d 61b 61c 61f 620 640 641 64b 656 670 671 6dd 6de 700 750 780 870 892 897 8e2 8e3 900 fb50 "
        "fd3e fd40 fdd0 fdf0 fe00 fe70 fe75 fe76 fefd 10e60 10e7f 10ec2 10ec8 10ec9 10eef 10ef0 10f00 1ee00 1ee04 1ee05 "
        "1ee20 1ee21 1ee23 1ee24 1ee25 1ee27 1ee28 1ee29 1ee33 1ee34 1ee38 1ee39 1ee3a 1ee3b 1ee3c 1ee42 1ee43 1ee47 "
        "1ee48 1ee49 1ee4a 1ee4b 1ee4c 1ee4d 1ee50 1ee51 1ee53 1ee54 1ee55 1ee57 1ee58 1ee59 1ee5a 1ee5b 1ee5c 1ee5d "
        "1ee5e 1ee5f 1ee60 1ee61 1ee63 1ee64 1ee65 1ee67 1ee6b 1ee6c 1ee73 1ee74 1ee78 1ee79 1ee7d 1ee7e 1ee7f 1ee80 "
        "1ee8a 1ee8b 1ee9c 1eea1 1eea4 1eea5 1eeaa 1eeab 1eebc 1eef0 1eef2"
    ),
    "Armenian": "531 557 558 590 fb13 fb18",
    "Bengali": (
        "980 984 985 98d 98f 991 993 9a9 9aa 9b1 9b2 9b3 9b6 9ba 9bc 9c5 9c7 9c9 9cb 9cf 9d7 9d8 9dc 9de 9df 9e4 9e6 "
        "9ff 11df0 11df2"
    ),
    "Bopomofo": "2ea 2ec 3105 3130 31a0 31c0",
    "Cyrillic": "400 485 487 530 1c80 1c8b 1d2b 1d2c 1d78 1d79 2de0 2e00 a640 a6a0 fe2e fe30 1e030 1e06e 1e08f 1e090",
    "Devanagari": "900 951 955 964 966 980 a8e0 a900 11b00 11b0b",
    "Georgian": "10a0 10c6 10c7 10c8 10cd 10ce 10d0 10fb 10fc 1100 1c90 1cbb 1cbd 1cc0 2d00 2d26 2d27 2d28 2d2d 2d2e",
    "Greek": (
        "370 374 375 378 37a 37e 37f 380 384 385 386 387 388 38b 38c 38d 38e 3a2 3a3 3e2 3f0 400 1d26 1d2b 1d5d 1d62 "
        "1d66 1d6b 1dbf 1dc0 1f00 1f16 1f18 1f1e 1f20 1f46 1f48 1f4e 1f50 1f58 1f59 1f5a 1f5b 1f5c 1f5d 1f5e 1f5f 1f7e "
        "1f80 1fb5 1fb6 1fc5 1fc6 1fd4 1fd6 1fdc 1fdd 1ff0 1ff2 1ff5 1ff6 1fff 2126 2127 ab65 ab66 10140 1018f 101a0 "
        "101a1 1d200 1d246 1dff3 1dff5"
    ),
    "Han": (
        "2e80 2e9a 2e9b 2ef4 2f00 2fd6 3005 3006 3007 3008 3021 302a 3038 303c 3400 4dc0 4e00 a000 f900 fa6e fa70 fada "
        "16fe2 16fe4 16ff0 16ff7 20000 2a6e0 2a700 2b81f 2b820 2ceae 2ceb0 2ebe1 2ebf0 2ee5e 2f800 2fa1e 30000 3134b "
        "31350 3347a"
    ),
    "Hangul": (
        "1100 1200 302e 3030 3131 318f 3200 321f 3260 327f a960 a97d ac00 d7a4 d7b0 d7c7 d7cb d7fc ffa0 ffbf ffc2 ffc8 "
        "ffca ffd0 ffd2 ffd8 ffda ffdd"
    ),
    "Hebrew": "591 5ca 5d0 5eb 5ef 5f5 fb1d fb37 fb38 fb3d fb3e fb3f fb40 fb42 fb43 fb45 fb46 fb50",
    "Hiragana": "3041 3097 309d 30a0 1b001 1b120 1b123 1b124 1b132 1b133 1b150 1b153 1f200 1f201",
    "Katakana": (
        "30a1 30fb 30fd 3100 31f0 3200 32d0 32ff 3300 3358 ff66 ff70 ff71 ff9e 1aff0 1aff4 1aff5 1affc 1affd 1afff "
        "1b000 1b001 1b120 1b123 1b124 1b129 1b155 1b156 1b164 1b169"
    ),
    "Latin": (
        "41 5b 61 7b aa ab ba bb c0 d7 d8 f7 f8 2b9 2e0 2e5 1d00 1d26 1d2c 1d5d 1d62 1d66 1d6b 1d78 1d79 1dbf 1e00 1f00 "
        "2071 2072 207f 2080 2090 20a0 212a 212c 2132 2133 214e 214f 2160 2189 2c60 2c80 a722 a788 a78b a7de a7e2 a7e3 "
        "a7f1 a800 ab30 ab5b ab5c ab65 ab66 ab6a ab6c ab6e fb00 fb07 ff21 ff3b ff41 ff5b 10780 10786 10787 107b1 107b2 "
        "107c0 1df00 1df82 1df90 1df97 1dfcd 1dff3 1dff5 1e000"
    ),
    "Tamil": (
        "b82 b84 b85 b8b b8e b91 b92 b96 b99 b9b b9c b9d b9e ba0 ba3 ba5 ba8 bab bae bba bbe bc3 bc6 bc9 bca bce bd0 "
        "bd1 bd7 bd8 be6 bfb 11fc0 11ff2 11fff 12000"
    ),
    "Telugu": "c00 c0d c0e c11 c12 c29 c2a c3a c3c c45 c46 c49 c4a c4e c55 c57 c58 c5b c5c c5e c60 c64 c66 c70 c77 c80",
    "Thai": "e01 e3b e40 e5c",
}

EMOJI: dict[str, str] = {
    "Emoji": (
        "23 24 2a 2b 30 3a a9 aa ae af 203c 203d 2049 204a 2122 2123 2139 213a 2194 219a 21a9 21ab 231a 231c 2328 2329 "
        "23cf 23d0 23e9 23f4 23f8 23fb 24c2 24c3 25aa 25ac 25b6 25b7 25c0 25c1 25fb 25ff 2600 2605 260e 260f 2611 2612 "
        "2614 2616 2618 2619 261d 261e 2620 2621 2622 2624 2626 2627 262a 262b 262e 2630 2638 263b 2640 2641 2642 2643 "
        "2648 2654 265f 2661 2663 2664 2665 2667 2668 2669 267b 267c 267e 2680 2692 2698 2699 269a 269b 269d 26a0 26a2 "
        "26a7 26a8 26aa 26ac 26b0 26b2 26bd 26bf 26c4 26c6 26c8 26c9 26ce 26d0 26d1 26d2 26d3 26d5 26e9 26eb 26f0 26f6 "
        "26f7 26fb 26fd 26fe 2702 2703 2705 2706 2708 270e 270f 2710 2712 2713 2714 2715 2716 2717 271d 271e 2721 2722 "
        "2728 2729 2733 2735 2744 2745 2747 2748 274c 274d 274e 274f 2753 2756 2757 2758 2763 2765 2795 2798 27a1 27a2 "
        "27b0 27b1 27bf 27c0 2934 2936 2b05 2b08 2b1b 2b1d 2b50 2b51 2b55 2b56 3030 3031 303d 303e 3297 3298 3299 329a "
        "1f004 1f005 1f0cf 1f0d0 1f170 1f172 1f17e 1f180 1f18e 1f18f 1f191 1f19b 1f1e6 1f200 1f201 1f203 1f21a 1f21b "
        "1f22f 1f230 1f232 1f23b 1f250 1f252 1f300 1f322 1f324 1f394 1f396 1f398 1f399 1f39c 1f39e 1f3f1 1f3f3 1f3f6 "
        "1f3f7 1f4fe 1f4ff 1f53e 1f549 1f54f 1f550 1f568 1f56f 1f571 1f573 1f57b 1f587 1f588 1f58a 1f58e 1f590 1f591 "
        "1f595 1f597 1f5a4 1f5a6 1f5a8 1f5a9 1f5b1 1f5b3 1f5bc 1f5bd 1f5c2 1f5c5 1f5d1 1f5d4 1f5dc 1f5df 1f5e1 1f5e2 "
        "1f5e3 1f5e4 1f5e8 1f5e9 1f5ef 1f5f0 1f5f3 1f5f4 1f5fa 1f650 1f680 1f6c6 1f6cb 1f6d3 1f6d5 1f6da 1f6dc 1f6e6 "
        "1f6e9 1f6ea 1f6eb 1f6ed 1f6f0 1f6f1 1f6f3 1f6fd 1f7e0 1f7ec 1f7f0 1f7f1 1f90c 1f93b 1f93c 1f946 1f947 1fa00 "
        "1fa70 1fa7d 1fa80 1fac7 1fac8 1fac9 1facc 1fade 1fadf 1faec 1faef 1fafb"
    ),
    "Emoji_Presentation": (
        "231a 231c 23e9 23ed 23f0 23f1 23f3 23f4 25fd 25ff 2614 2616 2648 2654 267f 2680 2693 2694 26a1 26a2 26aa 26ac "
        "26bd 26bf 26c4 26c6 26ce 26cf 26d4 26d5 26ea 26eb 26f2 26f4 26f5 26f6 26fa 26fb 26fd 26fe 2705 2706 270a 270c "
        "2728 2729 274c 274d 274e 274f 2753 2756 2757 2758 2795 2798 27b0 27b1 27bf 27c0 2b1b 2b1d 2b50 2b51 2b55 2b56 "
        "1f004 1f005 1f0cf 1f0d0 1f18e 1f18f 1f191 1f19b 1f1e6 1f200 1f201 1f202 1f21a 1f21b 1f22f 1f230 1f232 1f237 "
        "1f238 1f23b 1f250 1f252 1f300 1f321 1f32d 1f336 1f337 1f37d 1f37e 1f394 1f3a0 1f3cb 1f3cf 1f3d4 1f3e0 1f3f1 "
        "1f3f4 1f3f5 1f3f8 1f43f 1f440 1f441 1f442 1f4fd 1f4ff 1f53e 1f54b 1f54f 1f550 1f568 1f57a 1f57b 1f595 1f597 "
        "1f5a4 1f5a5 1f5fb 1f650 1f680 1f6c6 1f6cc 1f6cd 1f6d0 1f6d3 1f6d5 1f6da 1f6dc 1f6e0 1f6eb 1f6ed 1f6f4 1f6fd "
        "1f7e0 1f7ec 1f7f0 1f7f1 1f90c 1f93b 1f93c 1f946 1f947 1fa00 1fa70 1fa7d 1fa80 1fac7 1fac8 1fac9 1facc 1fade "
        "1fadf 1faec 1faef 1fafb"
    ),
    "Emoji_Modifier": "1f3fb 1f400",
    "Emoji_Component": "23 24 2a 2b 30 3a 200d 200e 20e3 20e4 fe0f fe10 1f1e6 1f200 1f3fb 1f400 1f9b0 1f9b4 e0020 e0080",
    "Extended_Pictographic": (
        "a9 aa ae af 203c 203d 2049 204a 2122 2123 2139 213a 2194 219a 21a9 21ab 231a 231c 2328 2329 23cf 23d0 23e9 "
        "23f4 23f8 23fb 24c2 24c3 25aa 25ac 25b6 25b7 25c0 25c1 25fb 25ff 2600 2605 260e 260f 2611 2612 2614 2616 2618 "
        "2619 261d 261e 2620 2621 2622 2624 2626 2627 262a 262b 262e 2630 2638 263b 2640 2641 2642 2643 2648 2654 265f "
        "2661 2663 2664 2665 2667 2668 2669 267b 267c 267e 2680 2692 2698 2699 269a 269b 269d 26a0 26a2 26a7 26a8 26aa "
        "26ac 26b0 26b2 26bd 26bf 26c4 26c6 26c8 26c9 26ce 26d0 26d1 26d2 26d3 26d5 26e9 26eb 26f0 26f6 26f7 26fb 26fd "
        "26fe 2702 2703 2705 2706 2708 270e 270f 2710 2712 2713 2714 2715 2716 2717 271d 271e 2721 2722 2728 2729 2733 "
        "2735 2744 2745 2747 2748 274c 274d 274e 274f 2753 2756 2757 2758 2763 2765 2795 2798 27a1 27a2 27b0 27b1 27bf "
        "27c0 2934 2936 2b05 2b08 2b1b 2b1d 2b50 2b51 2b55 2b56 3030 3031 303d 303e 3297 3298 3299 329a 1f004 1f005 "
        "1f02c 1f030 1f094 1f0a0 1f0af 1f0b1 1f0c0 1f0c1 1f0cf 1f0d1 1f0f6 1f100 1f170 1f172 1f17e 1f180 1f18e 1f18f "
        "1f191 1f19b 1f1af 1f1e6 1f201 1f210 1f21a 1f21b 1f22f 1f230 1f232 1f23b 1f23c 1f240 1f249 1f260 1f266 1f322 "
        "1f324 1f394 1f396 1f398 1f399 1f39c 1f39e 1f3f1 1f3f3 1f3f6 1f3f7 1f3fb 1f400 1f4fe 1f4ff 1f53e 1f549 1f54f "
        "1f550 1f568 1f56f 1f571 1f573 1f57b 1f587 1f588 1f58a 1f58e 1f590 1f591 1f595 1f597 1f5a4 1f5a6 1f5a8 1f5a9 "
        "1f5b1 1f5b3 1f5bc 1f5bd 1f5c2 1f5c5 1f5d1 1f5d4 1f5dc 1f5df 1f5e1 1f5e2 1f5e3 1f5e4 1f5e8 1f5e9 1f5ef 1f5f0 "
        "1f5f3 1f5f4 1f5fa 1f650 1f680 1f6c6 1f6cb 1f6d3 1f6d5 1f6e6 1f6e9 1f6ea 1f6eb 1f6f1 1f6f3 1f700 1f7dc 1f7f1 "
        "1f80c 1f810 1f848 1f850 1f85a 1f860 1f888 1f890 1f8ae 1f8b0 1f8bc 1f8c0 1f8c2 1f8d0 1f8d9 1f900 1f90c 1f93b "
        "1f93c 1f946 1f947 1fa00 1fa58 1fa60 1fa6e 1fb00 1fc00 1fffe"
    ),
}
