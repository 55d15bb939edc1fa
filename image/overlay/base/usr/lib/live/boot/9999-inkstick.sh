#!/bin/sh
# Read last of live-boot's parts: any number of layers, "Check this stick", and failures in words for the person in front
# of the screen.
# live-boot's own check reports to a hidden console, and its failures end in a root shell; here nothing ends in a shell.

inkstick_say ()
{
	printf '%b\n' "$@" > /dev/console
}

inkstick_stop ()
{
	inkstick_say '' '  Take the stick out or leave it in; press Enter to start this computer anew.'
	read -r _answer < /dev/console || sleep 86400
	sync
	echo b > /proc/sysrq-trigger
	sleep 60
}

# Reads every file of the stick whose hash is in sha256sum.txt; never goes on to start. Some three hundred files are small,
# so each gets one process and no more.
Verify_checksums ()
{
	case " ${LIVE_BOOT_CMDLINE} " in
		*" verify-checksums "*) ;;
		*) return 0 ;;
	esac
	cd "${1}" || return 0
	inkstick_say '\033[2J\033[H' '  Inkstick: checking this stick. This takes some minutes.' ''
	_damaged=""
	# Where the list itself cannot be read to its end, the loop below would end early and find nothing wrong.
	if [ ! -s sha256sum.txt ] || ! cat sha256sum.txt > /dev/null 2>&1
	then
		_damaged="sha256sum.txt"
		inkstick_say "    DAMAGED: sha256sum.txt"
	fi
	_large=" $(find . -type f -size +2000 2> /dev/null | tr '\n' ' ')" # in units of 512 bytes
	while read -r _sum _file
	do
		case "${_large}" in
			*" ${_file} "*)
				inkstick_say "    ${_file#./} ($(ls -l "${_file}" | awk '{ print int($5 / 1000000) }') MB)"
				;;
		esac
		if ! sha256sum -c > /dev/null 2>&1 <<- END
			${_sum}  ${_file}
		END
		then
			_damaged="${_damaged} ${_file#./}"
			inkstick_say "    DAMAGED: ${_file#./}"
		fi
	done < sha256sum.txt
	if [ -z "${_damaged}" ]
	then
		inkstick_say '' '  THE STICK IS GOOD: every file is what was written.'
	else
		inkstick_say '' '  THE STICK IS DAMAGED. Write it anew; if that does not help, take another stick.'
	fi
	inkstick_stop
}

panic ()
{
	chvt 1 2> /dev/null
	inkstick_say '\033[2J\033[H' '  Inkstick could not start.' '' "    ${*}" '' \
		'  The stick may be damaged, or its contact loose. Try another USB socket, choose' \
		'  "Check this stick" in the menu, or write the stick anew. Nothing on it was changed.'
	inkstick_stop
}

# Stacks the layers: MOUNTPOINT WRITABLE LAYER..., the uppermost first. live-boot's own names them all in one option, and
# through the kernel's newer interface, which mount prefers, an option holds 255 bytes: eight layers are too many.
do_union ()
{
	_point="${1}"
	_writable="${2}"
	shift 2
	mkdir -p "${_writable}/rw" "${_writable}/work"
	unionmountopts="noatime"
	for _layer in "${@}"
	do
		unionmountopts="${unionmountopts},lowerdir+=${_layer}"
	done
	unionmountopts="${unionmountopts},upperdir=${_writable}/rw,workdir=${_writable}/work,redirect_dir=on"
	mount -t overlay -o "${unionmountopts}" overlay "${_point}"
}
